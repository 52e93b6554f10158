// How long tests wait for an upstream in process.

/** For what answers, however busy the machine is. */
export const PATIENT = { connectMs: 60_000, headersMs: 60_000, bodyMs: 60_000 };

/** For what hangs. Long enough for all that is asked beside it. */
export const IMPATIENT = { connectMs: 60_000, headersMs: 500, bodyMs: 500 };
