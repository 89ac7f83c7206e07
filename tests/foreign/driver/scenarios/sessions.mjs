// What is kept for a session is nobody else's.

import assert from 'node:assert/strict';

const layers = ['defaults', 'everything'];
const text = ({ result }) => result.content[0].text;

export const scenarios = [
    {
        name: 'session',
        layers,
        async run(stage) {
            const a = await stage.client('a');
            await a.call('before', 'recall', { key: 'colour' });
            await a.call('write', 'remember', { key: 'colour', value: 'red' });
            await a.call('after', 'recall', { key: 'colour' });
            await a.call('again', 'recall', { key: 'colour' });
            await a.call('other', 'recall', { key: 'shape' });
        },
        bare({ a }) {
            assert.deepEqual([a.before, a.write, a.after, a.again, a.other].map(text), [
                'nothing',
                'Remembered colour',
                'red',
                'red',
                'nothing',
            ]);
        },
    },
    {
        name: 'sessions-of-two',
        layers,
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            await a.call('write', 'remember', { key: 'colour', value: 'red' });
            await a.call('read', 'recall', { key: 'colour' });
            await b.call('before', 'recall', { key: 'colour' });
            await b.call('write', 'remember', { key: 'colour', value: 'blue' });
            await b.call('read', 'recall', { key: 'colour' });
            await a.call('read-again', 'recall', { key: 'colour' });
            await Promise.all([a.call('together', 'recall', { key: 'colour' }), b.call('together', 'recall', { key: 'colour' })]);
        },
        bare({ a, b }) {
            assert.deepEqual([a.read, b.before, b.read].map(text), ['red', 'nothing', 'blue']);
            assert.deepEqual([a['read-again'], a.together, b.together].map(text), ['red', 'red', 'blue']);
        },
    },
];
