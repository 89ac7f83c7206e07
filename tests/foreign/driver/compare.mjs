// What differs between two event sets, and which of that is listed.

import { isDeepStrictEqual } from 'node:util';

/** Stands for what is not there. */
export const NOTHING = '(nothing)';

/** All places at which `layered` differs from `bare`: `{ at, bare, layered }`. */
export function differences(bare, layered, at = '') {
    if (isDeepStrictEqual(bare, layered)) return [];
    if (!isObject(bare) || !isObject(layered)) {
        return [{ at, bare: bare ?? NOTHING, layered: layered ?? NOTHING }];
    }
    const keys = [...new Set([...Object.keys(bare), ...Object.keys(layered)])].sort();
    return keys.flatMap((key) => differences(bare[key], layered[key], at === '' ? key : `${at}/${key}`));
}

function isObject(value) {
    return value !== null && typeof value === 'object' && Array.isArray(value) === false;
}

/**
 * Compares what differs in one run with what is listed for it.
 *
 * Returns what is not listed, and what is listed and does not occur (any more).
 */
export function judge(found, run, list) {
    const listed = list
        .filter((entry) => entry.scenario === run.scenario)
        .filter((entry) => entry.transports.includes(run.transport) && entry.layers.includes(run.layers))
        .flatMap((entry) => entry.differs);
    return {
        unlisted: found.filter((difference) => !listed.some((known) => isDeepStrictEqual(known, difference))),
        gone: listed.filter((known) => !found.some((difference) => isDeepStrictEqual(known, difference))),
    };
}

/** Says what is wrong with a list, as sentences: an entry that says too little, or that no run can match. */
export function mistakes(list, runs) {
    const wrong = [];
    for (const [index, entry] of list.entries()) {
        const name = `Entry ${index + 1} of the list (${entry.scenario})`;
        const { scenario, transports, layers, why, differs } = entry;
        if (!why || ![transports, layers, differs].every((part) => Array.isArray(part) && part.length > 0)) {
            wrong.push(`${name} lacks one of: transports, layers, why, differs`);
            continue;
        }
        for (const transport of transports) {
            for (const layer of layers) {
                const matches = (run) => run.scenario === scenario && run.transport === transport && run.layers === layer;
                if (!runs.some(matches)) wrong.push(`${name} names a run that there is not: ${transport} ${layer}`);
            }
        }
    }
    return wrong;
}
