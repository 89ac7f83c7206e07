// Runs an official conformance suite against one server and reads its verdicts.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { guard, timeout } from '../driver/servers.mjs';

const SUITE_MS = 180_000;
const SHOWN = 3_000;

/** By the server that each suite is run against: the package, and the scenarios. */
const SUITES = {
    conformance: { name: '@modelcontextprotocol/conformance', scenarios: ['--suite', 'all'] },
    stateless: { name: 'conformance-next', scenarios: ['--requirements', '2026-07-28'] },
};

/** Finds a suite. It exports nothing, so its program is found beside its manifest. */
export function installed(server) {
    const suite = SUITES[server];
    if (suite === undefined) throw new Error(`There is no suite for ${server}, only for ${Object.keys(SUITES).join(' and ')}`);
    try {
        const manifest = createRequire(import.meta.url).resolve(`${suite.name}/package.json`);
        return { program: join(dirname(manifest), 'dist', 'index.js'), scenarios: suite.scenarios };
    } catch {
        throw new Error(`${suite.name} is not installed. Run \`scripts/foreign conformance\`, or \`npm ci\` in tests/foreign`);
    }
}

/** The verdict of each check, by `scenario: check`. What a check only notes is none. */
export async function verdicts({ program, scenarios }, url) {
    const results = await mkdtemp(join(tmpdir(), 'conformance-'));
    try {
        const output = await run(program, ['server', '--url', url, ...scenarios, '--output-dir', results]);
        const found = new Map();
        for (const directory of (await readdir(results)).sort()) {
            const scenario = /^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(directory)?.[1];
            if (scenario === undefined) throw new Error(`The suite names its results in a new way: ${directory}`);
            const checks = JSON.parse(await readFile(join(results, directory, 'checks.json'), 'utf8'));
            for (const check of checks.filter((check) => check.status !== 'INFO')) {
                add(found, `${scenario}: ${check.id}`, verdict(check).replaceAll(url, 'URL'));
            }
        }
        if (found.size === 0) throw new Error(`The suite has no verdicts. It says:\n${output}`);
        return found;
    } finally {
        await rm(results, { recursive: true, force: true });
    }
}

/** A scenario may make a check more than once. */
function add(found, name, verdict) {
    let key = name;
    for (let times = 2; found.has(key); times += 1) key = `${name} (${times})`;
    found.set(key, verdict);
}

/** How a check went wrong is a part of its verdict. */
function verdict({ status, errorMessage }) {
    return status === 'SUCCESS' || errorMessage === undefined ? status : `${status}: ${errorMessage}`;
}

/** The suite ends with an error where one check fails, so how it ended says nothing. */
async function run(program, args) {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const release = child.pid === undefined ? () => {} : guard(child.pid);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk) => {
            output = (output + chunk).slice(-SHOWN);
        });
    }
    const ended = new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
    const late = timeout(SUITE_MS, `The suite does not end within ${SUITE_MS} ms`);
    try {
        await Promise.race([ended, late.promise]);
        return output;
    } catch (error) {
        child.kill('SIGKILL');
        throw new Error(`${error.message}. It says:\n${output}`);
    } finally {
        late.clear();
        release();
    }
}
