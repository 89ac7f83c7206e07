// The two lists that are committed: the verdicts of the bare server, and how those under every layer may differ.

import { readFileSync, writeFileSync } from 'node:fs';

const BARE = new URL('./bare.json', import.meta.url);
const DIFFERENCES = new URL('./differences.json', import.meta.url);

/** What stands for the verdict of a check that was not made. */
export const NONE = 'NONE';

/** Reads the lists: entries by the check, or by the run and the check. */
export function read() {
    const bare = load(BARE, (entry) => entry.check);
    const differences = load(DIFFERENCES, key);
    for (const { check, verdict, reason } of bare.values()) {
        if (verdict !== 'SUCCESS' && !reason) throw new Error(`bare.json gives no reason for the verdict of ${check}`);
    }
    for (const { run, check, reason } of differences.values()) {
        if (!reason) throw new Error(`differences.json gives no reason for ${check}, ${run}`);
    }
    return { bare, differences };
}

/** Names a difference. */
export function key({ run, check }) {
    return `${run} | ${check}`;
}

/** Writes what was seen. Reasons are kept, and those that are missing are for somebody to write. */
export function write(bare, differences) {
    const old = { bare: load(BARE, (entry) => entry.check), differences: load(DIFFERENCES, key) };
    const verdicts = [...bare].map(([check, verdict]) => {
        const reason = old.bare.get(check)?.reason ?? '';
        return verdict === 'SUCCESS' ? { check, verdict } : { check, verdict, reason };
    });
    save(BARE, verdicts);
    save(DIFFERENCES, differences.map((entry) => ({ ...entry, reason: old.differences.get(key(entry))?.reason ?? '' })));
}

function load(file, name) {
    const entries = JSON.parse(readFileSync(file, 'utf8'));
    return new Map(entries.map((entry) => [name(entry), entry]));
}

function save(file, entries) {
    writeFileSync(file, `${JSON.stringify(entries, null, 2)}\n`);
}
