// The line of the access log that a process writes: what the logger would have written, without its cost.
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { beginRequest, createAccessLog, type RequestEnd } from '../../src/observe/request.ts';

const HOSTILE = '"\\\u2028\n\u001b[31m é{"level":60}';
const END: RequestEnd = { status: 200, bytesSent: 10, durationMs: 1.234, isAborted: false };

/** What only some requests have. */
const RARE = {
  ...{ traceId: 'a'.repeat(32), userAgent: HOSTILE, reference: HOSTILE, isAugmented: true },
  ...{ upstream: HOSTILE, upstreamMs: 1.26, heldMs: 2.51, action: { name: 'token.revoke', target: HOSTILE } },
};

function lineOf(isDirect: boolean, { status = 200, level = 'info', rare = {} } = {}): readonly string[] {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const base = { pid: 1, hostname: HOSTILE };
  const log = pino({ level, base }, { write });
  const begun = beginRequest({
    method: 'GET',
    path: HOSTILE,
    route: '',
    address: '127.0.0.1',
    header: () => undefined,
  });
  const facts = Object.assign(begun, {
    ...{ id: 'one', repository: HOSTILE, caller: HOSTILE, cache: 'hit' as const },
    error: { code: 'UNKNOWN', message: HOSTILE },
    ...rare,
  });
  const end = { ...END, status, bytesReceived: 20, isAborted: status === 499 };
  createAccessLog(log, isDirect ? { direct: { base, write } } : {})(facts, end);
  return lines;
}

test.each([
  { status: 200, rare: {} },
  { status: 404, rare: { cache: undefined, error: undefined } },
  { status: 499, rare: RARE },
  { status: 503, rare: { ...RARE, action: { name: 'token.revoke', target: undefined } } },
])('has the same fields, in the same order, for status $status', wanted => {
  const [[direct = ''], [logged = '']] = [lineOf(true, wanted), lineOf(false, wanted)];
  expect(direct.endsWith('}\n') && direct.indexOf('\n') === direct.length - 1).toBe(true);
  const [own, theirs] = [JSON.parse(direct), JSON.parse(logged)];
  expect(Object.keys(own)).toEqual(Object.keys(theirs));
  expect({ ...own, time: 0 }).toEqual({ ...theirs, time: 0 });
  expect(typeof own.time).toBe('number');
});

test('is not there below the level of the log', () => {
  expect(lineOf(true, { level: 'warn' })).toEqual([]);
  expect(lineOf(true, { level: 'warn', status: 500 })).toHaveLength(1);
});
