// Progress. A client that waits for less than the whole call gets its answer only if progress reaches it in time.

import assert from 'node:assert/strict';

const STEPS = 8;
/** The whole call takes 2.7 s. */
const PATIENCE = { timeout: 1_200, resetTimeoutOnProgress: true, maxTotalTimeout: 15_000, onprogress: () => {} };
const call = (client, label, tool) => client.call(label, tool, { steps: STEPS, step_ms: 300 }, PATIENCE);

const steps = (last) => Array.from({ length: last }, (_, i) => `${i + 1}/${last} step ${i + 1}`);

function counted({ result, progress }) {
    assert.equal(result.content[0].text, `Counted to ${STEPS}`);
    assert.deepEqual(progress, steps(STEPS));
}

export const scenarios = [
    {
        name: 'progress',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const a = await stage.client('a');
            await call(a, 'acting', 'count');
        },
        bare({ a }) {
            counted(a.acting);
        },
    },
    {
        name: 'progress-of-a-read',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const a = await stage.client('a');
            await call(a, 'reading', 'count_read');
        },
        bare({ a }) {
            counted(a.reading);
        },
    },
    {
        name: 'progress-of-a-hit',
        async run(stage) {
            const a = await stage.client('a');
            const args = { steps: STEPS, step_ms: 20 };
            await a.call('first', 'count_read', args);
            await a.call('again', 'count_read', args, { onprogress: () => {} });
        },
        bare({ a }) {
            assert.equal(a.first.result.content[0].text, `Counted to ${STEPS}`);
            // It was not asked for.
            assert.equal(a.first.progress, undefined);
            counted(a.again);
        },
        layered({ a }) {
            assert.equal(a.again.cache.status, 'hit');
        },
    },
    {
        name: 'progress-for-two',
        layers: ['defaults', 'everything'],
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            await Promise.all([call(a, 'together', 'count_read'), call(b, 'together', 'count_read')]);
        },
        bare({ a, b }) {
            counted(a.together);
            counted(b.together);
        },
    },
    {
        name: 'progress-of-attempts',
        async run(stage) {
            const a = await stage.client('a');
            await a.call('first', 'count_again', { key: 'k' }, { onprogress: () => {} });
            await a.call('again', 'count_again', { key: 'k' }, { onprogress: () => {} });
        },
        bare({ a }) {
            assert.equal(a.first.result.isError, true);
            assert.equal(a.first.result._meta['io.turbomcp/errorKind'], 'unavailable');
            assert.deepEqual(a.first.progress, steps(2));
            assert.equal(a.again.result.content[0].text, 'Counted again');
            assert.deepEqual(a.again.progress, steps(3));
        },
        layered({ a }) {
            assert.equal(a.first.attempts, 2);
        },
    },
];
