// 200 calls at once.

import assert from 'node:assert/strict';

/** A mixture of 200: equal reads, different reads, writes, and reads that fail. */
function calls(client) {
    const all = [];
    for (let i = 0; i < 50; i += 1) {
        all.push(client.call(`square-${i}`, 'square', { n: i }));
        all.push(client.call(`greet-${i}`, 'greet', { name: `guest ${i % 5}` }));
        all.push(client.call(`add-${i}`, 'add', { amount: 1 }));
        all.push(client.call(`fail-${i}`, 'fail_with_text', { text: `no ${i % 7}` }));
    }
    return all;
}

/** Each write answers a total that no other one does. Which of them, no order says. */
function sortTotals(stage, clients) {
    const totals = [];
    for (const { events } of clients) {
        for (const label of Object.keys(events).filter((name) => name.startsWith('add-'))) {
            totals.push(Number(events[label].result?.content[0].text));
            delete events[label];
        }
    }
    stage.note('totals', totals.sort((a, b) => a - b));
}

function mixture(events) {
    for (let i = 0; i < 50; i += 1) {
        assert.equal(events[`square-${i}`].result.content[0].text, String(i * i));
        assert.equal(events[`greet-${i}`].result.content[0].text, `Hello, guest ${i % 5}!`);
        assert.equal(events[`fail-${i}`].result.isError, true);
        assert.equal(events[`fail-${i}`].result.content[0].text, `no ${i % 7}`);
    }
}

/** They were made at once: some of them travel together, and equal ones share an answer. */
function shared({ a }) {
    const sizes = Object.keys(a).filter((label) => label.startsWith('square-')).map((label) => a[label].batch.size);
    assert(Math.max(...sizes) > 1, `no two calls were in one batch: ${sizes}`);
}

const upTo = (last) => Array.from({ length: last }, (_, i) => i + 1);

export const scenarios = [
    {
        name: 'two-hundred',
        limit: 60_000,
        async run(stage) {
            const a = await stage.client('a');
            await Promise.all(calls(a));
            sortTotals(stage, [a]);
            await a.call('total', 'total');
        },
        bare({ a, notes }) {
            mixture(a);
            assert.deepEqual(notes.totals, upTo(50));
            assert.equal(a.total.result.content[0].text, '50');
        },
        layered: shared,
    },
    {
        name: 'two-hundred-each',
        transports: ['http'],
        limit: 60_000,
        async run(stage) {
            const clients = await Promise.all([stage.client('a'), stage.client('b')]);
            await Promise.all(clients.flatMap(calls));
            sortTotals(stage, clients);
            await clients[1].call('total', 'total');
        },
        bare({ a, b, notes }) {
            mixture(a);
            mixture(b);
            assert.deepEqual(notes.totals, upTo(100));
            assert.equal(b.total.result.content[0].text, '100');
        },
        layered: shared,
    },
];
