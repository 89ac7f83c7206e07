// Takes out of what a client saw all that differs from run to run, and what the layers say of themselves.

import { createHash } from 'node:crypto';

const OWN = 'mcp-patterns/';
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi;
const TIME = /\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})/g;
/** Longer texts are written down as their length and hash. */
const LONGEST = 2_000;

/** What the layers say of themselves in a result, or nothing. */
export function ownMeta(result) {
    const own = Object.entries(result?._meta ?? {}).filter(([key]) => key.startsWith(OWN));
    return own.length > 0 ? Object.fromEntries(own.map(([key, value]) => [key.slice(OWN.length), value])) : undefined;
}

/** The same value without what the layers say of themselves, without random ids and times, and with short texts. */
export function normalise(value) {
    if (typeof value === 'string') return text(value);
    if (Array.isArray(value)) return value.map(normalise);
    if (value === null || typeof value !== 'object') return value;
    const entries = [];
    for (const [key, item] of Object.entries(value)) {
        if (item === undefined || key.startsWith(OWN)) continue;
        const kept = normalise(item);
        // What had nothing in it but that was not there without the layers.
        if (isEmpty(kept) && !isEmpty(item)) continue;
        entries.push([key, kept]);
    }
    // The order of a map's keys on the wire means nothing.
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries);
}

function isEmpty(value) {
    return value !== null && typeof value === 'object' && Object.keys(value).length === 0;
}

function text(value) {
    if (value.length > LONGEST) {
        const hash = createHash('sha256').update(value).digest('hex').slice(0, 16);
        return `(${value.length} characters, sha256 ${hash})`;
    }
    return value.replace(UUID, '(id)').replace(TIME, '(time)');
}
