// A read after a write sees it.

import assert from 'node:assert/strict';

import { arrived } from './observing.mjs';

const text = ({ result }) => result.content[0].text;

export const scenarios = [
    {
        name: 'read-after-write',
        async run(stage) {
            const a = await stage.client('a');
            await a.call('before', 'total');
            await a.call('write', 'add', { amount: 5 });
            await a.call('after', 'total');
            await a.call('again', 'total');
            await a.call('write-again', 'add', { amount: 5 });
            await a.call('at-last', 'total');
        },
        bare({ a }) {
            const labels = ['before', 'write', 'after', 'again', 'write-again', 'at-last'];
            assert.deepEqual(labels.map((label) => text(a[label])), ['0', '5', '5', '5', '10', '10']);
        },
        layered({ a }) {
            assert.equal(a.after.cache.status, 'miss');
            assert.equal(a.again.cache.status, 'hit');
        },
    },
    {
        // The read has begun before the write and ends after it.
        name: 'read-during-write',
        async run(stage) {
            const a = await stage.client('a');
            const before = a.call('before', 'total', { ms: 900 });
            await arrived();
            await a.call('write', 'add', { amount: 5 });
            await before;
            await a.call('after', 'total', { ms: 900 });
        },
        bare({ a }) {
            assert.deepEqual([a.before, a.write, a.after].map(text), ['0', '5', '5']);
        },
    },
    {
        name: 'write-of-another',
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            await a.call('before', 'total');
            await b.call('before', 'total');
            await b.call('write', 'add', { amount: 7 });
            await a.call('after', 'total');
        },
        bare({ a, b }) {
            assert.deepEqual([a.before, b.before, b.write, a.after].map(text), ['0', '0', '7', '7']);
        },
        layered({ b }) {
            // Two callers whom the server knows nothing of are one principal.
            assert.equal(b.before.cache.status, 'hit');
        },
    },
    {
        // The same write twice, as a client makes it whose first answer was lost. Bare, no tool takes a key.
        name: 'write-with-a-key',
        async run(stage) {
            const a = await stage.client('a');
            const args = { amount: 5, idempotency_key: 'order-1' };
            await a.call('write', 'add', args);
            await a.call('again', 'add', args);
            await a.call('other', 'add', { ...args, amount: 6 });
            await a.call('total', 'total');
        },
        bare({ a }) {
            for (const label of ['write', 'again', 'other']) {
                assert.match(text(a[label]), /Unknown argument 'idempotency_key'/);
            }
            assert.equal(text(a.total), '0');
        },
        layered({ a }) {
            assert.equal(a.write, undefined);
            assert.equal(a.again.idempotency, 'replayed');
        },
    },
];
