// Tools that ask their caller's client: its user, its model, its roots.

import assert from 'node:assert/strict';

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

const METHODS = ['elicitation/create', 'sampling/createMessage', 'roots/list'];

export const scenarios = [
    {
        name: 'asking',
        async run(stage) {
            const a = await stage.client('a');
            await ask(a);
            await ask(a, '_read');
            const shy = await stage.client('shy', {});
            await ask(shy);
        },
        bare({ a, shy }) {
            assert.deepEqual(a.asked.map(({ method }) => method), [...METHODS, ...METHODS]);
            assert.equal(a.asked[0].params.message, QUESTION.question);
            assert.equal(a.asked[1].params.messages[0].content.text, 'Think');
            answered(a, 'a');
            answered(a, 'a', '_read');
            refused(shy);
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
];
