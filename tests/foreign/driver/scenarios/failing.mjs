// Failures in each form.

import assert from 'node:assert/strict';

const FORMS = [
    'internal',
    'unavailable',
    'rate_limited',
    'invalid_params',
    'permission_denied',
    'url_elicitation',
    'result',
    'structured',
    'panic',
];

export const scenarios = [
    {
        name: 'failures',
        layers: ['defaults', 'everything'],
        async run(stage) {
            const a = await stage.client('a');
            for (const form of FORMS) {
                await a.call(`acting-${form}`, 'fail', { form });
                await a.call(`reading-${form}`, 'fail_read', { form });
                await a.call(`reading-${form}-again`, 'fail_read', { form });
            }
            await a.call('without-kind', 'fail_with_text', { text: 'No kind' });
            await a.call('after-all', 'greet', { name: 'Ada' });
        },
        bare({ a }) {
            const kinds = { acting: 'fail', reading: 'fail_read' };
            for (const who of Object.keys(kinds)) {
                for (const kind of ['internal', 'unavailable', 'rate_limited', 'invalid_params', 'permission_denied']) {
                    const { result } = a[`${who}-${kind}`];
                    assert.equal(result.isError, true);
                    assert.equal(result._meta['io.turbomcp/errorKind'], kind);
                }
                assert.equal(a[`${who}-url_elicitation`].error.code, -32042);
                assert.equal(a[`${who}-result`].result.content[0].text, 'A result that is an error');
                assert.deepEqual(a[`${who}-structured`].result.structuredContent, { left: 0 });
                assert.equal(a[`${who}-panic`].error.code, -32603);
            }
            assert.equal(a['without-kind'].result.content[0].text, 'No kind');
            assert.equal(a['after-all'].result.content[0].text, 'Hello, Ada!');
        },
        layered({ a }, layers) {
            assert.equal(a['reading-unavailable'].attempts, 3);
            assert.equal(a['acting-unavailable']?.attempts, layers === 'everything' ? 3 : undefined);
        },
    },
    {
        name: 'bad-arguments',
        async run(stage) {
            const a = await stage.client('a');
            await a.call('unknown-tool', 'no_such_tool');
            await a.call('missing', 'greet');
            await a.call('wrong-type', 'square', { n: 'nine' });
            await a.call('fraction', 'square', { n: 1.5 });
            await a.call('unknown-argument', 'greet', { name: 'Ada', nmae: 'Grace' });
            await a.call('right', 'square', { n: 9 });
        },
        bare({ a }) {
            assert.equal(a['unknown-tool'].error.code, -32602);
            for (const label of ['missing', 'wrong-type', 'fraction', 'unknown-argument']) {
                assert.equal(a[label].result.isError, true);
                assert.equal(a[label].result._meta['io.turbomcp/errorKind'], 'invalid_params');
            }
            assert.equal(a.right.result.content[0].text, '81');
        },
    },
];
