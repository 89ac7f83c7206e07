// Calls that their client gives up.

import assert from 'node:assert/strict';

import { arrived, until } from './observing.mjs';

const LONG = 8_000;

/** Makes a call that takes long, and gives it up once the tool runs. */
async function giveUp(client, tool, key) {
    const controller = new AbortController();
    const call = client.call(`${key}-given-up`, tool, { key, ms: LONG }, { signal: controller.signal });
    await until(client, key, ({ started }) => started === 1);
    controller.abort('enough');
    await call;
}

const hasEnded = ({ started, cancelled, finished, dropped }) => started === cancelled + finished + dropped;

export const scenarios = [
    {
        name: 'cancelling',
        async run(stage) {
            const a = await stage.client('a');
            for (const tool of ['wait', 'wait_read']) {
                await giveUp(a, tool, tool);
                stage.note(tool, await until(a, tool, hasEnded));
                // The same call, made again, is not answered with the end of the other.
                await a.call(`${tool}-again`, tool, { key: tool, ms: 20 });
            }
        },
        bare({ a, notes }) {
            for (const tool of ['wait', 'wait_read']) {
                assert.match(a[`${tool}-given-up`].error.message, /enough/);
                assert.deepEqual(notes[tool], { started: 1, cancelled: 1, finished: 0, dropped: 0 });
                assert.equal(a[`${tool}-again`].result.content[0].text, `Waited for ${tool}`);
            }
        },
    },
    {
        name: 'running-out-of-time',
        async run(stage) {
            const a = await stage.client('a');
            await a.call('acting', 'wait', { key: 'acting', ms: LONG }, { timeout: 300 });
            stage.note('acting', await until(a, 'acting', hasEnded));
            await a.call('reading', 'wait_read', { key: 'reading', ms: LONG }, { timeout: 300 });
            stage.note('reading', await until(a, 'reading', hasEnded));
        },
        bare({ a, notes }) {
            for (const label of ['acting', 'reading']) {
                assert.equal(a[label].error.code, -32001);
                assert.deepEqual(notes[label], { started: 1, cancelled: 1, finished: 0, dropped: 0 });
            }
        },
    },
    {
        name: 'cancelling-one-of-two',
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            const controller = new AbortController();
            const args = { key: 'shared', ms: 1_500 };
            const first = a.call('given-up', 'wait_read', args, { signal: controller.signal });
            await until(a, 'shared', ({ started }) => started === 1);
            const second = b.call('kept', 'wait_read', args);
            await arrived();
            controller.abort('enough');
            await Promise.all([first, second]);
            stage.note('shared', await until(b, 'shared', hasEnded));
        },
        bare({ a, b, notes }) {
            assert.match(a['given-up'].error.message, /enough/);
            assert.equal(b.kept.result.content[0].text, 'Waited for shared');
            assert.deepEqual(notes.shared, { started: 2, cancelled: 1, finished: 1, dropped: 0 });
        },
    },
];
