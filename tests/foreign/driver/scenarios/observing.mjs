// Asks the server how the calls of a key went. What is asked meanwhile is no event. Under `everything` that is cached, too: so
// what asks runs under `defaults` only.

import { setTimeout as sleep } from 'node:timers/promises';

const STEP_MS = 20;
const LIMIT_MS = 10_000;
const ARRIVAL_MS = 300;

async function observed({ client }, key) {
    const { structuredContent } = await client.callTool({ name: 'observed', arguments: { key } });
    return structuredContent;
}

/** Waits until a call that was sent has reached the server. One that joins another is seen by nobody. */
export function arrived() {
    return sleep(ARRIVAL_MS);
}

/** Asks until the answer is as it should be. */
export async function until(participant, key, isSo) {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
        const seen = await observed(participant, key);
        if (isSo(seen)) return seen;
        if (Date.now() > end) throw new Error(`After ${LIMIT_MS} ms, the calls of ${key} are still ${JSON.stringify(seen)}`);
        await sleep(STEP_MS);
    }
}
