// Calls a server through the official TypeScript SDK, bare and under layers, and compares what its clients see.
//
//     node main.mjs SERVER [--only SCENARIO] [--events]
//
// Bare, a scenario must see what it expects; else nothing is compared with it. Under layers, it must see the same, but for what
// `differences.json` lists; what is listed and does not occur is a failure, too. `--events` prints all that was seen.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { differences, judge, mistakes } from './compare.mjs';
import { scenarios } from './scenarios/index.mjs';
import { run } from './stage.mjs';

const LIST = new URL('./differences.json', import.meta.url);
const BARE = 'none';

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: { only: { type: 'string', multiple: true }, events: { type: 'boolean' } },
});
const [server] = positionals;
if (positionals.length !== 1) fail('Give the path of the server: node main.mjs SERVER [--only SCENARIO] [--events]');
for (const name of options.only ?? []) {
    const names = scenarios.map((scenario) => scenario.name);
    if (!names.includes(name)) fail(`There is no scenario ${name}. There are: ${names.join(', ')}`);
}

const list = JSON.parse(readFileSync(LIST, 'utf8'));
const plan = scenarios.flatMap((scenario) =>
    scenario.transports.flatMap((transport) =>
        [BARE, ...scenario.layers].map((layers) => ({ scenario: scenario.name, transport, layers })),
    ),
);
const wrong = mistakes(list, plan);
if (wrong.length > 0) fail(wrong.join('\n'));

const started = Date.now();
let runs = 0;
let failed = 0;
for (const scenario of scenarios) {
    if (options.only && !options.only.includes(scenario.name)) continue;
    for (const transport of scenario.transports) {
        await compare(scenario, transport);
    }
}
console.log(`\n${runs} runs in ${Math.round((Date.now() - started) / 1000)} s, ${failed} failed.`);
process.exit(failed === 0 ? 0 : 1);

async function compare(scenario, transport) {
    const bare = await report(scenario, transport, BARE, ({ events }) => ({
        problems: expectations(() => scenario.bare(events)),
    }));
    for (const layers of bare.isRight ? scenario.layers : []) {
        await report(scenario, transport, layers, ({ events, own }) => {
            const problems = [];
            const found = differences(bare.events, events);
            const { unlisted, gone, known } = judge(found, { scenario: scenario.name, transport, layers }, list);
            for (const difference of unlisted) {
                problems.push(`Differs from the bare server, and is not listed:\n${written(difference)}`);
            }
            for (const difference of gone) {
                problems.push(`Is listed and does not occur. Remove it from the list:\n${written(difference)}`);
            }
            problems.push(...expectations(() => scenario.layered?.(own, layers)));
            return { problems, known };
        });
    }
}

/** Makes one run and prints a line about it, and what is wrong with it. */
async function report(scenario, transport, layers, judged) {
    const began = Date.now();
    const seen = await run(scenario, server, transport, layers);
    const { problems, known = {} } = seen.failures.length > 0 ? { problems: seen.failures } : judged(seen);
    const what = `${scenario.name.padEnd(24)} ${transport.padEnd(6)} ${layers.padEnd(11)}`;
    const took = `${String(Date.now() - began).padStart(6)} ms`;
    const kinds = Object.entries(known).filter(([, count]) => count > 0);
    const listed = kinds.length > 0 ? `, known differences: ${kinds.map(([kind, count]) => `${count} ${kind}`).join(', ')}` : '';
    runs += 1;
    console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'} ${what} ${took}${listed}`);
    if (options.events) console.log(indent(JSON.stringify({ ...seen.events, layers: seen.own }, null, 2)));
    if (problems.length > 0) {
        failed += 1;
        for (const problem of problems) console.log(indent(problem));
        if (seen.errors.length > 0) console.log(indent(`The SDK complains: ${seen.errors.join('; ')}`));
        if (seen.lastWords) console.log(indent(`The server says:\n${seen.lastWords}`));
    }
    return { ...seen, isRight: problems.length === 0 };
}

function expectations(check) {
    try {
        check();
        return [];
    } catch (error) {
        // Where an event is missing altogether, that is a TypeError.
        const [place] = error.stack.match(/\w+\.mjs:\d+/) ?? ['somewhere'];
        return [`Something else was expected at ${place}: ${error.message}`];
    }
}

/** A difference as it is written in the list. */
function written({ at, bare, layered }) {
    const lines = Object.entries({ at, bare, layered }).map(([key, value]) => `  "${key}": ${JSON.stringify(value)}`);
    return `{\n${lines.join(',\n')}\n}`;
}

function indent(text) {
    return text.replace(/^/gm, '    ');
}

function fail(message) {
    console.error(message);
    process.exit(2);
}
