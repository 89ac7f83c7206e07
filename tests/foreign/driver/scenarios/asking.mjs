// Tools that ask their caller's client: its user, its model, its roots.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { arrived } from './observing.mjs';

const QUESTION = { question: 'Who are you?' };

async function ask(client, suffix = '') {
    await client.call(`elicit${suffix}`, `elicit${suffix}`, QUESTION);
    await client.call(`sample${suffix}`, `sample${suffix}`, { prompt: 'Think' });
    await client.call(`roots${suffix}`, `roots${suffix}`);
}

function answered(events, name, suffix = '') {
    const texts = ['elicit', 'sample', 'roots'].map((tool) => events[tool + suffix].result.content[0].text);
    const person = JSON.parse(texts[0].replace('accept: ', ''));
    assert.deepEqual(person, { name, age: 30 });
    assert.deepEqual(texts.slice(1), [`model of ${name} says: thoughts of ${name}`, `file:///home/${name}`]);
}

function refused(events, suffix = '') {
    for (const tool of ['elicit', 'sample', 'roots']) {
        assert.equal(events[tool + suffix].result.isError, true);
        assert.match(events[tool + suffix].result.content[0].text, /capability required/);
    }
    assert.equal(events.asked, undefined);
}

/** A user who takes the time to read the question. */
async function thoughtful() {
    await sleep(900);
    return { action: 'accept', content: { name: 'a', age: 30 } };
}

const METHODS = ['elicitation/create', 'sampling/createMessage', 'roots/list'];

export const scenarios = [
    {
        name: 'asking',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const a = await stage.client('a');
            await ask(a);
            await ask(a, '_read');
        },
        bare({ a }) {
            assert.deepEqual(a.asked.map(({ method }) => method), [...METHODS, ...METHODS]);
            assert.equal(a.asked[0].params.message, QUESTION.question);
            assert.equal(a.asked[1].params.messages[0].content.text, 'Think');
            answered(a, 'a');
            answered(a, 'a', '_read');
        },
    },
    {
        name: 'asking-in-vain',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const shy = await stage.client('shy', {});
            await ask(shy);
            await ask(shy, '_read');
        },
        bare({ shy }) {
            refused(shy);
            refused(shy, '_read');
        },
    },
    {
        name: 'declining',
        async run(stage) {
            const answers = [{ action: 'decline' }, { action: 'cancel' }, { action: 'accept', content: { age: 'old' } }];
            const a = await stage.client('a', {
                elicit: () => answers.shift(),
                sample: () => {
                    throw new Error('The user says no');
                },
            });
            await a.call('declined', 'elicit', QUESTION);
            await a.call('cancelled', 'elicit', QUESTION);
            await a.call('wrong-answer', 'elicit', QUESTION);
            await a.call('refused', 'sample_read', { prompt: 'Think' });
        },
        bare({ a }) {
            assert.match(a.declined.result.content[0].text, /^decline/);
            assert.match(a.cancelled.result.content[0].text, /^cancel/);
            assert.equal(a['wrong-answer'].result.isError, true);
            assert.equal(a.refused.result.isError, true);
            assert.equal(a.asked.length, 4);
        },
    },
    {
        // One after the other, so that the second finds what the first has left behind.
        name: 'asking-two',
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            await ask(a, '_read');
            await ask(b, '_read');
            const shy = await stage.client('shy', {});
            await ask(shy, '_read');
        },
        bare({ a, b, shy }) {
            for (const [events, name] of [[a, 'a'], [b, 'b']]) {
                answered(events, name, '_read');
                assert.deepEqual(events.asked.map(({ method }) => method), METHODS);
            }
            refused(shy, '_read');
        },
    },
    {
        // The second calls while the first's user still thinks.
        name: 'asking-two-together',
        transports: ['http'],
        async run(stage) {
            const a = await stage.client('a', { elicit: thoughtful });
            const [b, shy] = await Promise.all([stage.client('b'), stage.client('shy', {})]);
            const first = a.call('together', 'elicit_read', QUESTION);
            await arrived();
            await Promise.all([
                first,
                b.call('together', 'elicit_read', QUESTION),
                shy.call('together', 'elicit_read', QUESTION),
            ]);
        },
        bare({ a, b, shy }) {
            assert.match(a.together.result.content[0].text, /"a"/);
            assert.match(b.together.result.content[0].text, /"b"/);
            assert.equal(shy.together.result.isError, true);
            assert.deepEqual([a.asked.length, b.asked.length, shy.asked], [1, 1, undefined]);
        },
    },
    {
        // The first's user never answers, and then the first is gone.
        name: 'asking-one-who-leaves',
        transports: ['http'],
        async run(stage) {
            const a = await stage.client('a', { elicit: () => new Promise(() => {}) });
            const b = await stage.client('b');
            const lost = a.call('left', 'elicit_read', QUESTION);
            await arrived();
            const kept = b.call('kept', 'elicit_read', QUESTION, { timeout: 3_000 });
            await arrived();
            await stage.close(a);
            await Promise.all([lost, kept]);
            // A server that still waits for an answer would not end.
            await a.leave();
        },
        bare({ a, b }) {
            assert.match(a.left.error.message, /Connection closed/);
            assert.match(b.kept.result.content[0].text, /"b"/);
        },
    },
];
