// The line of the access log that a process writes: what the logger would have written, without its cost.
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { beginRequest, createAccessLog, type RequestEnd } from '../../src/observe/request.ts';

const HOSTILE = '"\\\u2028\n\u001b[31m é{"level":60}';
const END: RequestEnd = { status: 200, bytesSent: 10, durationMs: 1.234, isAborted: false };

function lineOf(isDirect: boolean, { status = 200, level = 'info' } = {}): readonly string[] {
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
  });
  createAccessLog(log, isDirect ? { direct: { base, write } } : {})(facts, { ...END, status });
  return lines;
}

test.each([200, 404, 503])('has the same fields, in the same order, for status %i', status => {
  const [[direct = ''], [logged = '']] = [lineOf(true, { status }), lineOf(false, { status })];
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
