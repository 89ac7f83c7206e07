import assert from 'node:assert/strict';
import { test } from 'node:test';

import { differences, judge, mistakes } from './compare.mjs';
import { normalise } from './normalise.mjs';

const RUN = { scenario: 'text', transport: 'http', layers: 'defaults' };
const DIFFERENCE = { at: 'a/first/result/content/0/text', bare: 'red', layered: 'blue' };
const ENTRY = {
    scenario: 'text',
    transports: ['stdio', 'http'],
    layers: ['defaults'],
    kind: 'intended',
    why: 'It is a test.',
    differs: [DIFFERENCE],
};

test('a difference is told with its place and both values', () => {
    const events = (text) => ({ a: { first: { result: { content: [{ type: 'text', text }] } } } });
    assert.deepEqual(differences(events('red'), events('blue')), [DIFFERENCE]);
    assert.deepEqual(differences(events('red'), events('red')), []);
});

test('what only one of them has is a difference', () => {
    assert.deepEqual(differences({ told: [1] }, { told: [1, 2], asked: 3 }), [
        { at: 'told/1', bare: '(nothing)', layered: 2 },
        { at: 'asked', bare: '(nothing)', layered: 3 },
    ]);
    assert.deepEqual(differences({ told: [] }, { told: {} }), [{ at: 'told', bare: [], layered: {} }]);
});

test('a difference that is not listed for this run is told', () => {
    assert.deepEqual(judge([DIFFERENCE], RUN, []).unlisted, [DIFFERENCE]);
    assert.deepEqual(judge([DIFFERENCE], RUN, [{ ...ENTRY, transports: ['stdio'] }]).unlisted, [DIFFERENCE]);
    assert.deepEqual(judge([DIFFERENCE], RUN, [{ ...ENTRY, layers: ['everything'] }]).unlisted, [DIFFERENCE]);
    assert.deepEqual(judge([{ ...DIFFERENCE, layered: 'green' }], RUN, [ENTRY]).unlisted.length, 1);
    assert.deepEqual(judge([DIFFERENCE], RUN, [ENTRY]), { unlisted: [], gone: [], known: { intended: 1, fault: 0 } });
});

test('a listed difference that does not occur is told', () => {
    assert.deepEqual(judge([], RUN, [ENTRY]).gone, [DIFFERENCE]);
    assert.deepEqual(judge([], { ...RUN, scenario: 'other' }, [ENTRY]).gone, []);
});

test('an entry that no run can match, or that gives no reason, is a mistake', () => {
    const runs = ['stdio', 'http'].map((transport) => ({ ...RUN, transport }));
    assert.deepEqual(mistakes([ENTRY], runs), []);
    for (const wrong of [{ scenario: 'txet' }, { layers: ['none'] }, { why: '' }, { kind: 'known' }, { differs: [] }]) {
        assert.equal(mistakes([{ ...ENTRY, ...wrong }], [...runs]).length > 0, true, JSON.stringify(wrong));
    }
});

test('what the layers say of themselves is no event, and what others say is', () => {
    const own = { 'mcp-patterns/cache': { status: 'hit' } };
    assert.deepEqual(normalise({ content: [], _meta: own }), { content: [] });
    assert.deepEqual(normalise({ _meta: { 'example.org/kept': {}, ...own } }), { _meta: { 'example.org/kept': {} } });
    assert.deepEqual(normalise({ structuredContent: {} }), { structuredContent: {} });
});

test('random ids, times and the order of keys are no difference', () => {
    const event = (id, time) => ({ text: `error ${id} at ${time}` });
    const [first, second] = [
        event('0b1a2a3c-0000-4000-8000-000000000001', '2025-11-25T00:00:00Z'),
        event('0b1a2a3c-0000-4000-8000-000000000002', '2026-01-01T10:00:00.5+01:00'),
    ];
    assert.deepEqual(normalise(first), normalise(second));
    assert.equal(JSON.stringify(normalise({ a: 1, b: 2 })), JSON.stringify(normalise({ b: 2, a: 1 })));
});

test('a long text is told by its length and hash', () => {
    const long = 'a'.repeat(5_000);
    assert.match(normalise(long), /^\(5000 characters, sha256 [0-9a-f]{16}\)$/);
    assert.notEqual(normalise(long), normalise(`${long.slice(1)}b`));
});
