// What differs between two event sets, and which of that is listed.

import { isDeepStrictEqual } from 'node:util';

/** Stands for what is not there. */
const NOTHING = '(nothing)';

/** A difference that a layer is there to make, or one that is wrong and waits for its mending. */
const KINDS = ['intended', 'fault'];

/** All places at which `layered` differs from `bare`: `{ at, bare, layered }`. */
export function differences(bare, layered, at = '') {
    if (isDeepStrictEqual(bare, layered)) return [];
    if (!isObject(bare) || !isObject(layered) || Array.isArray(bare) !== Array.isArray(layered)) {
        return [{ at, bare: bare ?? NOTHING, layered: layered ?? NOTHING }];
    }
    const keys = new Set([...Object.keys(bare), ...Object.keys(layered)]);
    return [...keys].flatMap((key) => differences(bare[key], layered[key], at === '' ? key : `${at}/${key}`));
}

function isObject(value) {
    return value !== null && typeof value === 'object';
}

/**
 * Compares what differs in one run with what is listed for it.
 *
 * Returns what is not listed, what is listed and does not occur, and how many of each kind occur as listed.
 */
export function judge(found, run, list) {
    const listed = list
        .filter((entry) => entry.scenario === run.scenario)
        .filter((entry) => entry.transports.includes(run.transport) && entry.layers.includes(run.layers))
        .flatMap(({ kind, differs }) => differs.map((difference) => ({ kind, difference })));
    const isListed = (difference) => listed.some((known) => isDeepStrictEqual(known.difference, difference));
    const occurs = ({ difference }) => found.some((other) => isDeepStrictEqual(other, difference));
    const count = (kind) => listed.filter((known) => known.kind === kind && occurs(known)).length;
    return {
        unlisted: found.filter((difference) => !isListed(difference)),
        gone: listed.filter((known) => !occurs(known)).map(({ difference }) => difference),
        known: Object.fromEntries(KINDS.map((kind) => [kind, count(kind)])),
    };
}

/** Says what is wrong with a list, as sentences: an entry that says too little, or that no run can match. */
export function mistakes(list, runs) {
    const wrong = [];
    for (const [index, entry] of list.entries()) {
        const name = `entry ${index + 1} of the list (${entry.scenario})`;
        const { scenario, transports, layers, kind, why, differs } = entry;
        if (!why || ![transports, layers, differs].every((part) => Array.isArray(part) && part.length > 0)) {
            wrong.push(`In ${name} one of these is missing: transports, layers, why, differs`);
            continue;
        }
        if (!KINDS.includes(kind)) wrong.push(`The kind of ${name} is ${kind}. It is one of: ${KINDS.join(', ')}`);
        for (const transport of transports) {
            for (const layer of layers) {
                const matches = (run) => run.scenario === scenario && run.transport === transport && run.layers === layer;
                if (!runs.some(matches)) wrong.push(`There is no run of ${name} over ${transport} under ${layer}`);
            }
        }
    }
    return wrong;
}
