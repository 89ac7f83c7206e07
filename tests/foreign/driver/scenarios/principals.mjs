// What one principal is answered, no other one is.

import assert from 'node:assert/strict';

const URI = 'driven://who';

/** Two connections of one principal, another user of its tenant, and its namesakes in another tenant and in none. */
const CALLERS = {
    'ada-of-acme': ['ada.acme', 'ada of acme, roles: '],
    'ada-again': ['ada.acme', 'ada of acme, roles: '],
    'grace-of-acme': ['grace.acme', 'grace of acme, roles: '],
    'ada-of-umbrella': ['ada.umbrella', 'ada of umbrella, roles: '],
    'ada-of-none': ['ada', 'ada of no tenant, roles: '],
};

const connect = (stage, callers) =>
    Promise.all(Object.entries(callers).map(([name, [token]]) => stage.client(name, {}, token)));

async function ask(participant) {
    await participant.call('tool', 'who');
    await participant.ask('resource', (client, options) => client.readResource({ uri: URI }, options));
}

function answered(events, callers) {
    for (const [name, [, text]] of Object.entries(callers)) {
        assert.equal(events[name].tool.result.content[0].text, text);
        assert.equal(events[name].resource.result.contents[0].text, text);
    }
}

const ADMIN = { ada: ['ada.acme', 'ada of acme, roles: '], admin: ['ada.acme.admin', 'ada of acme, roles: admin'] };

export const scenarios = [
    {
        // One after the other, so that each finds what the others have left behind.
        name: 'principals',
        transports: ['http'],
        layers: ['defaults', 'everything'],
        async run(stage) {
            for (const client of await connect(stage, CALLERS)) await ask(client);
        },
        bare(events) {
            answered(events, CALLERS);
        },
        layered(own) {
            assert.equal(own['ada-again'].tool.cache.status, 'hit');
            assert.equal(own['grace-of-acme'].tool.cache.status, 'miss');
        },
    },
    {
        name: 'principals-together',
        transports: ['http'],
        layers: ['defaults', 'everything'],
        async run(stage) {
            const clients = await connect(stage, CALLERS);
            await Promise.all(clients.flatMap((client) => [ask(client), client.call('together', 'who')]));
        },
        bare(events) {
            answered(events, CALLERS);
        },
    },
    {
        name: 'roles',
        transports: ['http'],
        async run(stage) {
            for (const client of await connect(stage, ADMIN)) await ask(client);
        },
        bare(events) {
            answered(events, ADMIN);
        },
    },
];
