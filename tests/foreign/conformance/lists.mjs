// The two lists of a suite that are committed: the verdicts of the bare server, and how those under every layer may differ.

import { readFileSync, writeFileSync } from 'node:fs';

/** What stands for the verdict of a check that was not made. */
export const NONE = 'NONE';

/** Reads the lists of a suite: entries by the check, or by the run and the check. */
export function read(suite) {
    const { bare, differences } = load(suite);
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
export function write(suite, bare, differences) {
    const old = load(suite);
    const verdicts = [...bare].map(([check, verdict]) => {
        const reason = old.bare.get(check)?.reason ?? '';
        return verdict === 'SUCCESS' ? { check, verdict } : { check, verdict, reason };
    });
    save(file(suite, 'bare'), verdicts);
    const withReason = (entry) => ({ ...entry, reason: old.differences.get(key(entry))?.reason ?? '' });
    save(file(suite, 'differences'), differences.map(withReason));
}

function load(suite) {
    return {
        bare: entries(file(suite, 'bare'), (entry) => entry.check),
        differences: entries(file(suite, 'differences'), key),
    };
}

function file(suite, list) {
    return new URL(`./${suite}/${list}.json`, import.meta.url);
}

function entries(file, name) {
    return new Map(JSON.parse(readFileSync(file, 'utf8')).map((entry) => [name(entry), entry]));
}

function save(file, entries) {
    writeFileSync(file, `${JSON.stringify(entries, null, 2)}\n`);
}
