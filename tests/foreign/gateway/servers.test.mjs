// The gateway in front of two reference servers: one from npm, one from PyPI. The client is the official TypeScript SDK.
//
//     GATEWAY=target/debug/examples/gateway PYTHON=python3 node --test gateway/servers.test.mjs

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const { GATEWAY, PYTHON } = process.env;
const everything = fileURLToPath(new URL('../node_modules/@modelcontextprotocol/server-everything/dist/index.js', import.meta.url));

/** Calls `use` with a client of the gateway, which has these settings. */
async function through(settings, use) {
    const directory = mkdtempSync(join(tmpdir(), 'mcp-patterns-gateway-'));
    try {
        const file = join(directory, 'gateway.toml');
        writeFileSync(file, settings);
        const client = new Client({ name: 'test', version: '1.0.0' });
        await client.connect(new StdioClientTransport({ command: GATEWAY, args: [file] }));
        await use(client);
        await client.close();
    } finally {
        rmSync(directory, { recursive: true });
    }
}

const cache = (result) => result._meta?.['mcp-patterns/cache']?.status;

test('the reference server of npm is cached, validated and limited', async () => {
    const settings = `
        upstream.command = ${JSON.stringify([process.execPath, everything])}
        validated = true
        [cached]
        tools = ["get-sum"]
        seconds = 60
        [limited]
        calls_per_minute = 3
        at_once = 2
        timeout_seconds = 60`;
    await through(settings, async (client) => {
        assert.equal(client.getServerVersion().name, 'mcp-servers/everything');
        const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
        const sums = [await call('get-sum', { a: 1, b: 2 }), await call('get-sum', { a: 1, b: 2 })];
        assert.deepEqual(sums.map(cache), ['miss', 'hit']);
        assert.ok(sums.every((sum) => sum.content[0].text === 'The sum of 1 and 2 is 3.'));
        const wrong = await call('get-sum', { a: 'one' });
        assert.ok(wrong.isError && wrong.content[0].text.includes('`a` must be a number'), JSON.stringify(wrong));
        const seen = [];
        const onprogress = ({ progress }) => seen.push(progress);
        await call('trigger-long-running-operation', { duration: 0.3, steps: 3 }, { onprogress });
        assert.ok(seen.includes(1) && seen.includes(2), `progress: ${seen}`);
        for (let count = 0; count < 3; count++) assert.ok(!(await call('echo', { message: 'hello' })).isError);
        const limited = await call('echo', { message: 'hello' });
        assert.ok(limited.isError && limited.content[0].text.includes('too often'), JSON.stringify(limited));
        const { resources } = await client.listResources();
        assert.ok((await client.readResource({ uri: resources[0].uri })).contents[0].text.length > 0);
        const { prompts } = await client.listPrompts();
        assert.ok((await client.getPrompt({ name: prompts[0].name })).messages.length > 0);
    });
});

test('the reference server of PyPI is cached and validated', async () => {
    const settings = `
        upstream.command = ${JSON.stringify([PYTHON, '-m', 'mcp_server_time'])}
        validated = true
        [cached]
        tools = ["get_current_time"]
        seconds = 60`;
    await through(settings, async (client) => {
        const now = (timezone) => client.callTool({ name: 'get_current_time', arguments: { timezone } });
        const times = [await now('Europe/Berlin'), await now('Europe/Berlin')];
        assert.deepEqual(times.map(cache), ['miss', 'hit']);
        assert.deepEqual(times[1].structuredContent, times[0].structuredContent);
        assert.equal(times[0].structuredContent.timezone, 'Europe/Berlin');
        assert.ok((await now(7)).isError);
    });
});
