// What the server says of itself.

import assert from 'node:assert/strict';

export const scenarios = [
    {
        name: 'catalogue',
        async run(stage) {
            const a = await stage.client('a');
            stage.note('capabilities', a.client.getServerCapabilities());
            stage.note('instructions', a.client.getInstructions());
            stage.note('server', a.client.getServerVersion());
            await a.ask('ping', (client, options) => client.ping(options));
            const { tools } = await a.client.listTools();
            stage.note('order', tools.map((tool) => tool.name));
            stage.note('tools', Object.fromEntries(tools.map((tool) => [tool.name, tool])));
            await a.ask('resources', (client, options) => client.listResources({}, options));
            await a.ask('templates', (client, options) => client.listResourceTemplates({}, options));
            await a.ask('prompts', (client, options) => client.listPrompts({}, options));
            const completed = { ref: { type: 'ref/prompt', name: 'summarise' }, argument: { name: 'topic', value: 'r' } };
            await a.ask('completion', (client, options) => client.complete(completed, options));
            await a.ask('level', (client, options) => client.setLoggingLevel('warning', options));
        },
        bare({ a, notes }) {
            assert.deepEqual(a.ping.result, {});
            assert.equal(notes.server.name, 'driven');
            assert.equal(notes.tools.greet.annotations.readOnlyHint, true);
            assert.equal(notes.tools.weather.outputSchema.type, 'object');
            assert.equal(Object.keys(notes.tools).length, 29);
            assert.equal(a.resources.result.resources[0].uri, 'driven://note');
            assert.equal(a.templates.result.resourceTemplates.length, 1);
            assert.equal(a.prompts.result.prompts[0].name, 'summarise');
            assert.deepEqual(a.completion.result.completion.values, ['rain', 'rust']);
            assert.deepEqual(a.level.result, {});
        },
    },
];
