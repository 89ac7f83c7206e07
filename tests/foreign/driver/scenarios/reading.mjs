// Reads that are answered twice: the second time, under layers, from memory.

import assert from 'node:assert/strict';

const layers = ['defaults', 'everything'];

export const scenarios = [
    {
        name: 'text',
        layers,
        async run(stage) {
            const a = await stage.client('a');
            await a.call('first', 'greet', { name: 'Ada' });
            await a.call('again', 'greet', { name: 'Ada' });
            await a.call('other', 'greet', { name: 'Grace "\u{1F980}" \\ \n' });
        },
        bare({ a }) {
            assert.deepEqual(a.first.result.content, [{ type: 'text', text: 'Hello, Ada!' }]);
            assert.deepEqual(a.again, a.first);
            assert.equal(a.other.result.content[0].text, 'Hello, Grace "\u{1F980}" \\ \n!');
        },
        layered({ a }) {
            assert.equal(a.first.cache.status, 'miss');
            assert.equal(a.again.cache.status, 'hit');
            assert.equal(a.other.cache.status, 'miss');
        },
    },
    {
        name: 'structured-content',
        layers,
        async run(stage) {
            const a = await stage.client('a');
            // Once it knows the schemas, the SDK checks each result against them.
            await a.client.listTools();
            await a.call('first', 'weather', { city: 'Paris' });
            await a.call('again', 'weather', { city: 'Paris' });
            await a.call('gallery', 'gallery');
            await a.call('gallery-again', 'gallery');
        },
        bare({ a }) {
            const { structuredContent, content } = a.first.result;
            assert.deepEqual(structuredContent, { city: 'Paris', celsius: 21.5, hours: [9, 12, 15], warning: null });
            assert.deepEqual(JSON.parse(content[0].text), structuredContent);
            assert.deepEqual(a.again, a.first);
            const kinds = a.gallery.result.content.map((piece) => piece.type);
            assert.deepEqual(kinds, ['text', 'image', 'audio', 'resource_link', 'resource']);
            assert.equal(a.gallery.result._meta['example.org/gallery'].pieces, 5);
            assert.deepEqual(a['gallery-again'], a.gallery);
        },
        layered({ a }) {
            assert.equal(a.again.cache.status, 'hit');
            assert.equal(a['gallery-again'].cache.status, 'hit');
        },
    },
    {
        name: 'resources-and-prompts',
        layers,
        async run(stage) {
            const a = await stage.client('a');
            const read = (label, uri) => a.ask(label, (client, options) => client.readResource({ uri }, options));
            const prompt = (label, name, args) =>
                a.ask(label, (client, options) => client.getPrompt({ name, arguments: args }, options));
            await read('page', 'driven://pages/7');
            await read('page-again', 'driven://pages/7');
            await read('unknown-resource', 'driven://nowhere/7');
            await prompt('prompt', 'summarise', { topic: 'rain' });
            await prompt('prompt-again', 'summarise', { topic: 'rain' });
            await prompt('prompt-without-topic', 'summarise', {});
            await prompt('unknown-prompt', 'translate', {});
        },
        bare({ a }) {
            assert.equal(a.page.result.contents[0].text, 'Content of driven://pages/7');
            assert.deepEqual(a['page-again'], a.page);
            assert.equal(a.prompt.result.messages[0].content.text, 'Summarise rain');
            assert.deepEqual(a['prompt-again'], a.prompt);
            for (const label of ['unknown-resource', 'prompt-without-topic', 'unknown-prompt']) {
                assert.equal(typeof a[label].error.code, 'number', label);
            }
        },
        layered({ a }) {
            assert.equal(a['page-again'].cache.status, 'hit');
            assert.equal(a['prompt-again'].cache.status, 'hit');
        },
    },
];
