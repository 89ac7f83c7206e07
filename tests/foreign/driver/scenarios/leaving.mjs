// Clients that go away in the middle of a call.

import assert from 'node:assert/strict';

import { arrived, until } from './observing.mjs';

const hasFinished = ({ finished }) => finished > 0;

export const scenarios = [
    {
        name: 'leaving',
        transports: ['stdio'],
        async run(stage) {
            const a = await stage.client('a');
            const call = a.call('in-flight', 'wait_read', { key: 'left', ms: 600 });
            await until(a, 'left', ({ started }) => started === 1);
            // The server answers what it has begun and then ends by itself, which is sooner than the SDK would kill it.
            await stage.close(a);
            await call;
        },
        bare({ a }) {
            assert.equal(a['in-flight'].result.content[0].text, 'Waited for left');
        },
    },
    {
        name: 'leaving-another-behind',
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            const args = { key: 'left', ms: 1_500 };
            const lost = a.call('in-flight', 'wait_read', args);
            await until(b, 'left', ({ started }) => started === 1);
            const kept = b.call('kept', 'wait_read', args);
            await arrived();
            await stage.close(a);
            await Promise.all([lost, kept]);
            await until(b, 'left', hasFinished);
            const c = await stage.client('c');
            await c.call('later', 'wait_read', { key: 'left', ms: 30 });
        },
        bare({ a, b, c }) {
            assert.match(a['in-flight'].error.message, /Connection closed/);
            assert.equal(b.kept.result.content[0].text, 'Waited for left');
            assert.equal(c.later.result.content[0].text, 'Waited for left');
        },
    },
    {
        // The end of a session cancels what runs in it.
        name: 'ending-a-session',
        transports: ['http'],
        async run(stage) {
            const [a, b] = await Promise.all([stage.client('a'), stage.client('b')]);
            const args = { key: 'ended', ms: 1_500 };
            const lost = a.call('in-flight', 'wait_read', args, { timeout: 4_000 });
            await until(b, 'ended', ({ started }) => started === 1);
            const kept = b.call('kept', 'wait_read', args);
            await arrived();
            await a.leave();
            await kept;
            await stage.close(a);
            await lost;
            await b.call('later', 'wait_read', { key: 'ended', ms: 30 });
        },
        bare({ b }) {
            assert.equal(b.kept.result.content[0].text, 'Waited for ended');
            assert.equal(b.later.result.content[0].text, 'Waited for ended');
        },
    },
];
