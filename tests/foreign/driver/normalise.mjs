// Takes out of what a client saw that which differs from run to run.

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
        if (item === undefined) continue;
        const kept = key === '_meta' ? foreignMeta(item) : normalise(item);
        if (kept !== undefined) entries.push([key, kept]);
    }
    // The order of a map's keys on the wire means nothing.
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries);
}

function foreignMeta(meta) {
    const entries = Object.entries(meta).filter(([key]) => !key.startsWith(OWN));
    return entries.length > 0 ? normalise(Object.fromEntries(entries)) : undefined;
}

function text(value) {
    if (value.length > LONGEST) {
        const hash = createHash('sha256').update(value).digest('hex').slice(0, 16);
        return `(${value.length} characters, sha256 ${hash})`;
    }
    return value.replace(UUID, '(id)').replace(TIME, '(time)');
}
