// Runs an official conformance suite against a server, bare and under layers, and compares the verdicts.
//
//     node main.mjs SERVER [--accept]
//
// The name of the server's program says which suite, and where its lists are. Bare, each check must have the verdict that `bare.json` lists. Under the layers that an author would choose, it must have the
// verdict it has bare, for a cache that is empty and for one that has the answers. With each layer on every tool, it may differ
// where `differences.json` says so. What is listed and does not occur is a failure, too. `--accept` writes both lists anew.

import { basename } from 'node:path';
import { parseArgs } from 'node:util';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { HttpServer } from '../driver/servers.mjs';
import { NONE, key, read, write } from './lists.mjs';
import { installed, verdicts } from './suite.mjs';

const CHOSEN = 'defaults';
const EVERY = 'everything';

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: { accept: { type: 'boolean', default: false } },
});
if (positionals.length !== 1) fail('Give the path of the server: node main.mjs SERVER [--accept]');
const [server] = positionals;

try {
    const name = basename(server);
    const suite = installed(name);
    const lists = options.accept ? undefined : read(name);
    const [bare] = await served(suite, 'none', ['once']);
    const chosen = await served(suite, CHOSEN, ['cold', 'again']);
    const every = await served(suite, EVERY, ['cold', 'again']);
    const expected = every.flatMap((run) => differing(bare, run));
    if (options.accept) {
        write(name, bare.found, expected.map(({ run, check, bare, layered }) => ({ run, check, bare, verdict: layered })));
        console.log('Wrote bare.json and differences.json. Give a reason for each entry that has none.');
    }
    const problems = [
        ...unlisted(bare.found, lists?.bare),
        ...chosen.flatMap((run) => differing(bare, run).map(under(CHOSEN, 'Find the layer that changes it: no difference is accepted here'))),
        ...unexpected(expected, lists?.differences),
    ];
    for (const problem of problems) console.log(`\nFAILED ${problem}`);
    console.log(`\n${bare.found.size} checks, 5 runs, ${problems.length} problems.`);
    if (problems.length > 0) {
        console.log('CONTRIBUTING.md says how a verdict that changed with good reason is accepted.');
        process.exitCode = 1;
    }
} catch (error) {
    fail(error.message);
}

/** Starts the server and has the suite run against it, once for each name. */
async function served(suite, layers, names) {
    const running = await HttpServer.start(server, ['--layers', layers]);
    const runs = [];
    let failure;
    try {
        for (const name of names) {
            const began = Date.now();
            if (name === 'again') await remembers(running.url);
            const found = await verdicts(suite, running.url.href);
            const count = [...found.values()].filter((verdict) => verdict === 'SUCCESS').length;
            console.log(`${layers.padEnd(11)} ${name.padEnd(5)} ${count} of ${found.size} checks succeed, ${Date.now() - began} ms`);
            runs.push({ name, found });
        }
    } catch (error) {
        failure = error;
    }
    // Where the server is gone, that is what is wrong, and not what its clients make of it.
    const said = await running.stop();
    if (said !== undefined) throw new Error(`The server (${layers}) ${said}. It says: ${running.lastWords()}`);
    if (failure !== undefined) throw failure;
    return runs;
}

/** To run again means something only where the cache answers. */
async function remembers(url) {
    const client = new Client({ name: 'conformance', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(url));
    const { _meta } = await client.callTool({ name: 'test_simple_text', arguments: {} });
    await client.close();
    const status = _meta?.['mcp-patterns/cache']?.status;
    if (status !== 'hit') throw new Error(`test_simple_text is not answered from the cache after a run, its status is ${status}`);
}

/** The checks whose verdicts are not those of the bare server. */
function differing(bare, { name, found }) {
    const checks = new Set([...bare.found.keys(), ...found.keys()]);
    return [...checks]
        .map((check) => ({ run: name, check, bare: bare.found.get(check) ?? NONE, layered: found.get(check) ?? NONE }))
        .filter((entry) => entry.bare !== entry.layered);
}

function unlisted(found, list) {
    if (list === undefined) return [];
    return [...new Set([...list.keys(), ...found.keys()])].flatMap((check) => {
        const [listed, seen] = [list.get(check)?.verdict ?? NONE, found.get(check) ?? NONE];
        if (listed === seen) return [];
        const todo = 'The server, turbomcp or the suite changed. If that is right, change bare.json.';
        return [`${check}, bare\n    listed ${listed}\n    seen   ${seen}\n    ${todo}`];
    });
}

function unexpected(differences, list) {
    if (list === undefined) return [];
    const seen = new Map(differences.map((entry) => [key(entry), entry]));
    const unlisted = differences
        .filter((entry) => list.get(key(entry))?.verdict !== entry.layered || list.get(key(entry))?.bare !== entry.bare)
        .map(under(EVERY, 'Find the layer that changes it; where it must, list that in differences.json with the reason'));
    const gone = [...list.values()]
        .filter((entry) => !seen.has(key(entry)))
        .map(({ run, check }) => `${check}, ${EVERY}, ${run}\n    It is as bare now. Remove it from differences.json.`);
    return [...unlisted, ...gone];
}

function under(layers, todo) {
    return ({ run, check, bare, layered }) =>
        `${check}, ${layers}, ${run}\n    bare    ${bare}\n    layered ${layered}\n    ${todo}.`;
}

function fail(message) {
    console.error(message);
    process.exit(1);
}
