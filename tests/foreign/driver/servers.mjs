// Starts the server under test, and ends what was started, however the driver ends.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const START_MS = 20_000;
const END_MS = 5_000;
const LAST_WORDS = 2_000;

const running = new Set();
process.on('exit', () => running.forEach((pid) => kill(pid, 'SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => process.exit(130));
}

function kill(pid, signal) {
    try {
        process.kill(pid, signal);
    } catch {
        // It has ended already.
    }
}

/** Has a process killed when the driver ends. Returns a function that lets go of it. */
export function guard(pid) {
    running.add(pid);
    return () => running.delete(pid);
}

/** Keeps the end of what a process writes to stderr. */
export function lastWords(stderr) {
    let text = '';
    stderr.on('data', (chunk) => {
        text = (text + chunk).slice(-LAST_WORDS);
    });
    return () => text.trim();
}

/** A server that listens on a free port of this machine. */
export class HttpServer {
    static async start(command, args) {
        const child = spawn(command, [...args, '--http', '0'], { stdio: ['ignore', 'pipe', 'pipe'] });
        const server = new HttpServer(child);
        server.url = await server.#listening();
        return server;
    }

    #child;
    #ended;
    lastWords;

    constructor(child) {
        this.#child = child;
        this.lastWords = lastWords(child.stderr);
        const release = child.pid === undefined ? () => {} : guard(child.pid);
        this.#ended = new Promise((resolve) => {
            child.once('error', (error) => resolve(`could not be started: ${error.message}`));
            child.once('close', (code, signal) => resolve(`ended with ${signal ?? `code ${code}`}`));
        }).finally(release);
    }

    #listening() {
        const lines = createInterface({ input: this.#child.stdout });
        const line = new Promise((resolve) => lines.once('line', resolve)).then((text) => new URL(text));
        const ended = this.#ended.then((how) => {
            throw new Error(`The server ${how} before it listened. It says: ${this.lastWords()}`);
        });
        const late = timeout(START_MS, `The server does not listen after ${START_MS} ms`);
        return Promise.race([line, ended, late.promise]).finally(late.clear);
    }

    /** Ends the server. Returns what was wrong with its end, or nothing. */
    async stop() {
        if (this.#child.exitCode === null && this.#child.signalCode === null) {
            this.#child.kill('SIGTERM');
            const late = timeout(END_MS, 'late');
            const how = await Promise.race([this.#ended, late.promise.catch(() => undefined)]).finally(late.clear);
            if (how === undefined) {
                this.#child.kill('SIGKILL');
                await this.#ended;
                return `did not end within ${END_MS} ms of SIGTERM`;
            }
            return how === 'ended with code 0' ? undefined : how;
        }
        return `${await this.#ended} too early`;
    }
}

/** A promise that fails after a time, and a function that stops the clock. */
export function timeout(ms, message) {
    let timer;
    const promise = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(message)), ms);
    });
    return { promise, clear: () => clearTimeout(timer) };
}
