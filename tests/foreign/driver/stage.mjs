// One run of one scenario: its server, its clients, and what they saw.

import { normalise } from './normalise.mjs';
import { Participant } from './participant.mjs';
import { HttpServer, timeout } from './servers.mjs';

/** How long a scenario may take that sets no limit of its own. */
const LIMIT_MS = 30_000;

const ALL = { elicit: true, sample: true, roots: true };

export class Stage {
    #command;
    #args;
    #starting;
    #server;
    #participants = [];
    #closed = new Set();
    notes = {};

    constructor(command, transport, layers) {
        this.#command = command;
        this.#args = ['--layers', layers];
        this.transport = transport;
    }

    /** Connects a client: over HTTP all to one server, over stdio each to a server of its own. A `token` says who it is. */
    async client(name, can = ALL, token = undefined) {
        let where = { command: this.#command, args: this.#args };
        if (this.transport === 'http') {
            this.#starting ??= HttpServer.start(this.#command, token ? [...this.#args, '--authorize'] : this.#args);
            this.#server = await this.#starting;
            where = { url: this.#server.url, token };
        }
        const participant = await Participant.connect(name, where, can);
        this.#participants.push(participant);
        return participant;
    }

    /** Writes something down that no client sees as an event. */
    note(label, value) {
        this.notes[label] = normalise(value);
    }

    /** Closes a client's connection before the end. */
    async close(participant) {
        this.#closed.add(participant);
        const wrong = await participant.close();
        if (wrong) throw new Error(`The server of ${participant.name} ${wrong}`);
    }

    /** What all clients saw, in a form that can be compared. */
    events() {
        const events = Object.fromEntries(this.#participants.map(({ name, events }) => [name, events]));
        return JSON.parse(JSON.stringify({ ...events, ...(Object.keys(this.notes).length > 0 && { notes: this.notes }) }));
    }

    /** What the layers say of themselves, for each client and label. */
    layers() {
        return Object.fromEntries(this.#participants.map(({ name, layers }) => [name, layers]));
    }

    errors() {
        const all = this.#participants.flatMap(({ name, errors }) => errors.map((error) => `${name}: ${error}`));
        return [...new Set(all)];
    }

    lastWords() {
        const words = this.#participants.map((participant) => participant.lastWords());
        return [this.#server?.lastWords() ?? '', ...words].filter(Boolean).join('\n');
    }

    /** Ends everything. Returns what was wrong with that. */
    async end() {
        const open = this.#participants.filter((participant) => !this.#closed.has(participant));
        const ends = open.map(async (participant) => [participant.name, await participant.close()]);
        const wrong = await Promise.all(ends);
        wrong.push(['all clients', await this.#server?.stop()]);
        return wrong.filter(([, how]) => how).map(([whose, how]) => `The server of ${whose} ${how}.`);
    }
}

/** Runs a scenario once. Returns what was seen, and `failures` that say why that cannot be compared. */
export async function run(scenario, command, transport, layers) {
    const stage = new Stage(command, transport, layers);
    const limit = scenario.limit ?? LIMIT_MS;
    const late = timeout(limit, `It hangs: it did not end within ${limit} ms`);
    let failure;
    try {
        await Promise.race([scenario.run(stage), late.promise]);
    } catch (error) {
        failure = `${error.message}.\nEvents until then: ${JSON.stringify(stage.events(), null, 2)}`;
    } finally {
        late.clear();
    }
    const [events, own, errors] = [stage.events(), stage.layers(), stage.errors()];
    const failures = [failure, ...(await stage.end())].filter(Boolean);
    return { events, own, errors, failures, lastWords: stage.lastWords() };
}
