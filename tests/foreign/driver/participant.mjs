// A client of the official SDK that writes down all that it sees.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
    CallToolResultSchema,
    CreateMessageRequestSchema,
    ElicitRequestSchema,
    ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';

import { normalise, ownMeta } from './normalise.mjs';
import { guard, lastWords, timeout } from './servers.mjs';

/** How long a call may take that sets no time of its own. Longer than any tool takes, and shorter than a scenario may. */
const CALL_MS = 20_000;
const CONNECT_MS = 20_000;
const LABEL = 'driver/label';

export class Participant {
    /** What the client saw: for each label the outcome and the progress, and in order what it was asked and told. */
    events = {};
    /** For each label, what the layers say of themselves in the result. */
    layers = {};
    errors = [];
    /** Label of each request that the server has not answered, by its id. */
    #labels = new Map();
    #progress = new Map();
    #release = () => {};
    #isClosing = false;
    #isLost = false;
    #transport;
    #url;

    /**
     * Connects a client.
     *
     * `can` says which requests of the server it answers: any of `elicit`, `sample`, `roots`. Each of them is `true`, or a function
     * that makes the answer.
     */
    static async connect(name, where, can) {
        const participant = new Participant(name, where, can);
        const late = timeout(CONNECT_MS, `Client ${name} is not connected after ${CONNECT_MS} ms`);
        try {
            await Promise.race([participant.#connect(), late.promise]);
        } catch (error) {
            await participant.close();
            const words = participant.lastWords();
            throw new Error(words ? `${error.message}. The server says: ${words}` : error.message);
        } finally {
            late.clear();
        }
        return participant;
    }

    constructor(name, where, can) {
        this.name = name;
        const asks = { elicit: 'elicitation', sample: 'sampling', roots: 'roots' };
        const capabilities = {};
        for (const [ability, capability] of Object.entries(asks)) {
            if (can[ability]) capabilities[capability] = {};
        }
        this.client = new Client({ name, version: '1.0.0' }, { capabilities });
        this.#answer(can.elicit, ElicitRequestSchema, () => ({ action: 'accept', content: { name, age: 30 } }));
        this.#answer(can.sample, CreateMessageRequestSchema, () => ({
            role: 'assistant',
            model: `model of ${name}`,
            content: { type: 'text', text: `thoughts of ${name}` },
        }));
        this.#answer(can.roots, ListRootsRequestSchema, () => ({ roots: [{ uri: `file:///home/${name}` }] }));
        // What cannot be delivered or understood is no exception in the SDK, but told here.
        this.client.onerror = (error) => this.errors.push(error.message);
        this.client.onclose = () => {
            this.#isLost ||= !this.#isClosing;
        };
        this.#open(where);
        this.#listen();
    }

    #answer(can, schema, usual) {
        if (can) this.client.setRequestHandler(schema, can === true ? usual : can);
    }

    #open({ url, token, command, args }) {
        if (url) {
            this.#url = url;
            this.lastWords = () => '';
            let streaming;
            this.streaming = new Promise((resolve) => {
                streaming = resolve;
            });
            // What the server says outside of a request needs the stream that a client opens once it is initialised.
            const observed = async (resource, init) => {
                const response = await fetch(resource, init);
                if (init?.method === 'GET' && response.ok) streaming();
                return response;
            };
            this.#transport = new StreamableHTTPClientTransport(new URL(url), {
                fetch: observed,
                ...(token && { requestInit: { headers: { authorization: `Bearer ${token}` } } }),
            });
        } else {
            this.#transport = new StdioClientTransport({ command, args: [...args, '--stdio'], stderr: 'pipe' });
            this.lastWords = lastWords(this.#transport.stderr);
            this.streaming = Promise.resolve();
        }
    }

    /** Listens at the transport: the SDK drops progress that arrives together with the answer that it belongs to. */
    #listen() {
        const transport = this.#transport;
        const send = transport.send.bind(transport);
        transport.send = (message, options) => {
            const label = message.params?._meta?.[LABEL];
            if (label !== undefined) {
                this.#labels.set(message.id, label);
                const token = message.params._meta.progressToken;
                if (token !== undefined) this.#progress.set(token, label);
            }
            return send(message, options);
        };
        transport.onmessage = (message) => {
            if (message.method === 'notifications/progress') {
                this.#progressed(message.params);
            } else if (message.method !== undefined) {
                const { method, params } = message;
                const list = message.id === undefined ? 'told' : 'asked';
                (this.events[list] ??= []).push({ method, params: normalise(params ?? {}) });
            } else {
                this.#labels.delete(message.id);
            }
        };
    }

    #progressed({ progressToken, progress, total = '?', message = '' }) {
        const label = this.#progress.get(progressToken);
        const isAnswered = ![...this.#labels.values()].includes(label);
        const kind = isAnswered ? 'progressAfterTheAnswer' : 'progress';
        (this.#of(label ?? 'nobody')[kind] ??= []).push(`${progress}/${total} ${message}`);
    }

    #of(label) {
        return (this.events[label] ??= {});
    }

    async #connect() {
        await this.client.connect(this.#transport);
        if (this.#transport.pid) this.#release = guard(this.#transport.pid);
        await this.streaming;
    }

    /** Calls a tool, and writes the outcome down under the label. Returns the result, or nothing if there is none. */
    call(label, tool, args = {}, options = {}) {
        const params = { name: tool, arguments: args, _meta: { [LABEL]: label } };
        return this.ask(label, (client, usual) => client.callTool(params, CallToolResultSchema, { ...usual, ...options }));
    }

    /** Has `request` make a request of the client, and writes the outcome down under the label, as `call` does. */
    async ask(label, request) {
        if (label in this.events) throw new Error(`The label ${label} is used twice by ${this.name}`);
        this.events[label] = {};
        try {
            const result = await request(this.client, { timeout: CALL_MS });
            const own = ownMeta(result);
            if (own) this.layers[label] = own;
            this.#of(label).result = normalise(result);
            return result;
        } catch (error) {
            const { code, message, data } = error;
            this.#of(label).error = normalise({ code, message, data });
            return undefined;
        }
    }

    /** Ends the HTTP session, as a client does that will not come back. Possible also after its connection is closed. */
    async leave() {
        const headers = { 'mcp-session-id': this.#transport.sessionId };
        const { status } = await fetch(this.#url, { method: 'DELETE', headers });
        if (status !== 204) throw new Error(`The end of the session of ${this.name} is answered with status ${status}`);
    }

    /** Closes the connection. Returns what was wrong with the end of a server that was this client's own, or nothing. */
    async close() {
        const pid = this.#transport.pid;
        this.#isClosing = true;
        await this.client.close();
        this.#release();
        if (this.#isLost) return 'ended before its connection';
        if (!pid) return undefined;
        try {
            process.kill(pid, 0);
        } catch {
            return undefined;
        }
        return 'did not end with its connection';
    }
}
