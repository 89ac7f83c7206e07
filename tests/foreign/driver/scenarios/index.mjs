// All scenarios, in the order in which they run.
//
// A scenario has a name, the transports and layers that it runs with, a function `run` that calls the server, a function `bare`
// that says what the clients of the bare server must have seen, and if need be a function `layered` that checks what the layers
// say of themselves.

import * as asking from './asking.mjs';
import * as cancelling from './cancelling.mjs';
import * as catalogue from './catalogue.mjs';
import * as counting from './counting.mjs';
import * as failing from './failing.mjs';
import * as large from './large.mjs';
import * as leaving from './leaving.mjs';
import * as many from './many.mjs';
import * as principals from './principals.mjs';
import * as reading from './reading.mjs';
import * as sessions from './sessions.mjs';
import * as telling from './telling.mjs';
import * as writing from './writing.mjs';

const DEFAULTS = { transports: ['stdio', 'http'], layers: ['defaults'] };

export const scenarios = [
    catalogue,
    reading,
    counting,
    asking,
    telling,
    cancelling,
    failing,
    writing,
    sessions,
    principals,
    large,
    many,
    leaving,
]
    .flatMap((module) => module.scenarios)
    .map((scenario) => ({ ...DEFAULTS, ...scenario }));
