// What the server says unasked: log messages, and that something has changed.

import assert from 'node:assert/strict';

const NOTE = 'driven://note';

export const scenarios = [
    {
        name: 'logging',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const a = await stage.client('a');
            await a.call('acting', 'log', { topic: 'acting' });
            await a.call('first', 'log_read', { topic: 'reading' });
            await a.call('again', 'log_read', { topic: 'reading' });
        },
        bare({ a }) {
            const told = a.told.map(({ method, params }) => [method, params.data.topic, params.level]);
            const three = (topic) => ['debug', 'info', 'warning'].map((level) => ['notifications/message', topic, level]);
            assert.deepEqual(told, [...three('acting'), ...three('reading'), ...three('reading')]);
        },
    },
    {
        name: 'changes',
        async run(stage) {
            const a = await stage.client('a');
            const read = (label) => a.ask(label, (client, options) => client.readResource({ uri: NOTE }, options));
            await a.ask('subscribe', (client, options) => client.subscribeResource({ uri: NOTE }, options));
            await read('before');
            await a.call('change', 'change_note', { text: 'rain' });
            await read('after');
            await a.ask('unsubscribe', (client, options) => client.unsubscribeResource({ uri: NOTE }, options));
            await a.call('subscriptions', 'observed', { key: NOTE });
        },
        bare({ a }) {
            assert.equal(a.before.result.contents[0].text, 'nothing yet');
            assert.equal(a.after.result.contents[0].text, 'rain');
            assert.deepEqual(a.told.map(({ method }) => method), [
                'notifications/resources/updated',
                'notifications/resources/list_changed',
                'notifications/prompts/list_changed',
                'notifications/tools/list_changed',
            ]);
            assert.equal(a.told[0].params.uri, NOTE);
            const { started, finished, cancelled } = a.subscriptions.result.structuredContent;
            assert.deepEqual({ started, finished, cancelled }, { started: 2, finished: 1, cancelled: 1 });
        },
        layered({ a }) {
            assert.equal(a.before.cache.status, 'miss');
            assert.equal(a.after.cache.status, 'miss');
        },
    },
];
