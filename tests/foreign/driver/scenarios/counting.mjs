// Progress. A client that waits for less than the whole call gets its answer only if progress reaches it in time.

import assert from 'node:assert/strict';

const STEPS = 8;
/** The whole call takes 2.4 s. */
const PATIENCE = { timeout: 1_200, resetTimeoutOnProgress: true, maxTotalTimeout: 15_000, onprogress: () => {} };
const call = (client, label, tool) => client.call(label, tool, { steps: STEPS, step_ms: 300 }, PATIENCE);

function counted({ result, progress }) {
    assert.equal(result.content[0].text, `Counted to ${STEPS}`);
    assert.deepEqual(progress.map((report) => report.progress), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert(progress.every((report) => report.total === STEPS && report.message === `step ${report.progress}`));
}

export const scenarios = [
    {
        name: 'progress',
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
        async run(stage) {
            const a = await stage.client('a');
            await call(a, 'first', 'count_read');
            await call(a, 'again', 'count_read');
        },
        bare({ a }) {
            counted(a.first);
            counted(a.again);
        },
    },
    {
        name: 'progress-for-two',
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
            assert.deepEqual(a.first.progress.map((report) => report.progress), [1, 2]);
            assert.equal(a.again.result.content[0].text, 'Counted again');
            assert.deepEqual(a.again.progress.map((report) => report.progress), [1, 2, 3]);
        },
        layered({ a }) {
            assert.equal(a.first.attempts, 2);
        },
    },
];
