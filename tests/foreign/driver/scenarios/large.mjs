// 5 MB each way.

import assert from 'node:assert/strict';

import { normalise } from '../normalise.mjs';

/** The parts of a text of five million bytes, in which no two thousand characters are alike. */
function parts() {
    let seed = 1;
    const next = () => {
        seed = (seed * 48_271) % 2_147_483_647;
        return seed.toString(36);
    };
    return Object.fromEntries(
        ['a', 'b', 'c', 'd', 'e'].map((name) => {
            const pieces = [];
            for (let length = 0; length < 1_000_000; length += pieces.at(-1).length) pieces.push(next());
            return [name, pieces.join('').slice(0, 1_000_000)];
        }),
    );
}

const PARTS = parts();
const WHOLE = Object.values(PARTS).join('');

export const scenarios = [
    {
        name: 'five-megabytes',
        limit: 90_000,
        async run(stage) {
            const a = await stage.client('a');
            const first = await a.call('first', 'echo_read', PARTS);
            const again = await a.call('again', 'echo_read', PARTS);
            stage.note('first-is-exact', first?.content[0].text === WHOLE);
            stage.note('again-is-exact', again?.content[0].text === WHOLE);
            const changed = { ...PARTS, e: `${PARTS.e.slice(0, -1)}!` };
            const other = await a.call('other', 'echo_read', changed);
            stage.note('other-is-exact', other?.content[0].text === `${WHOLE.slice(0, -1)}!`);
        },
        bare({ a, notes }) {
            assert.equal(a.first.result.content[0].text, normalise(WHOLE));
            assert.deepEqual(notes, { 'first-is-exact': true, 'again-is-exact': true, 'other-is-exact': true });
        },
        layered({ a }) {
            assert.deepEqual([a.first, a.again, a.other].map(({ cache }) => cache.status), ['miss', 'hit', 'miss']);
        },
    },
    {
        // The limits of the validation are smaller than that, unless its author says otherwise.
        name: 'five-megabytes-unasked',
        limit: 90_000,
        async run(stage) {
            const a = await stage.client('a');
            await a.call('large', 'echo', PARTS);
            await a.call('small', 'echo', { a: 'a', b: 'b', c: 'c', d: 'd', e: 'e' });
        },
        bare({ a }) {
            assert.equal(a.large.result.content[0].text, normalise(WHOLE));
            assert.equal(a.small.result.content[0].text, 'abcde');
        },
    },
];
