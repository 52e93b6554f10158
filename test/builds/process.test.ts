// Child processes: what they get, what is read of them, and that nothing of them is left.
import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { BackendUnavailable } from '../../src/builds/execution.ts';
import { childEnvironment, type ProcessOptions, readProcess, runProcess } from '../../src/builds/process.ts';

const env = childEnvironment(process.env, {});
const signal = new AbortController().signal;

test('gives the exit code and each line of both outputs', async () => {
  const { end, lines } = await runShell('echo one; echo two >&2; printf three; exit 3');
  expect(end).toEqual({ code: 3, endedBy: undefined });
  expect(lines.filter(line => line.startsWith('stdout'))).toEqual(['stdout one', 'stdout three']);
  expect(lines.filter(line => line.startsWith('stderr'))).toEqual(['stderr two']);
});

test('tells which signal ended the command', async () => {
  expect((await runShell('kill -9 $$')).end).toEqual({ code: undefined, endedBy: 'SIGKILL' });
});

test('cuts a long line, and continues with the next one', async () => {
  const { lines } = await runShell('head -c 5000000 /dev/zero | tr "\\0" x; echo; echo next', { maxLineLength: 10 });
  expect(lines).toEqual(['stdout xxxxxxxxxx…', 'stdout next']);
});

test('gives standard input to the command, or an empty one', async () => {
  expect((await runShell('cat', { input: 'given' })).lines).toEqual(['stdout given']);
  expect((await runShell('cat; echo end')).lines).toEqual(['stdout end']);
});

test('a command that does not read its input is no error', async () => {
  const { end } = await runShell('exec <&-; exit 0', { input: 'x'.repeat(1_000_000) });
  expect(end.code).toBe(0);
});

test('ends a command whose output cannot be taken, and throws that', async () => {
  const onLine = () => {
    throw new Error('cannot take it');
  };
  await expect(runProcess('sh', ['-c', 'echo one; sleep 600'], { env, signal, onLine })).rejects.toThrow(
    'cannot take it',
  );
  await expect(runProcess('printf', ['last'], { env, signal, onLine })).rejects.toThrow('cannot take it');
});

test('passes on a list of variables, and nothing else of the service', async () => {
  const service = { PATH: process.env.PATH, SECRET: 'canary', HTTPS_PROXY: 'http://proxy:1', HOME: '/root' };
  const { lines } = await runShell('env', { env: childEnvironment(service, { HOME: '/own', EMPTY: undefined }) });
  expect(lines).toEqual(
    expect.arrayContaining([
      `stdout PATH=${process.env.PATH}`,
      'stdout HTTPS_PROXY=http://proxy:1',
      'stdout HOME=/own',
    ]),
  );
  expect(lines.join()).not.toMatch(/canary|EMPTY/);
});

test('a command that is not there is unavailable', async () => {
  await expect(runProcess('no-such-command', [], { env, signal })).rejects.toThrow(
    new BackendUnavailable('no-such-command cannot be started: no such command; is it installed, and in PATH?'),
  );
});

test('starts nothing for a signal that has aborted', async () => {
  await expect(runShell('echo', { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
});

test.each([
  ['that ends on SIGTERM', 'sleep 1001 & sleep 1001'],
  ['that ignores SIGTERM', 'trap "" TERM; sleep 1002 & sleep 1002; sleep 1002'],
])('an abort ends a group %s, then throws the reason', async (_, script) => {
  const stop = new AbortController();
  const reason = new Error('enough');
  const seen: string[] = [];
  const running = runShell(`echo $$; ${script}`, {
    signal: stop.signal,
    graceMs: 200,
    onLine: line => {
      seen.push(line);
      stop.abort(reason);
    },
  });
  await expect(running).rejects.toBe(reason);
  await expectEmptied(seen[0]);
});

test('what a command left running ends with it, even where it holds no output', async () => {
  const { lines } = await runShell('echo $$; sleep 1003 & sleep 1003 >/dev/null 2>&1 & exit 0');
  await expectEmptied(lines[0]?.split(' ')[1]);
});

test('who left the group and holds the output is not awaited for ever', async () => {
  const { end } = await runShell('setsid sleep 3 & exit 4', { graceMs: 100 });
  expect(end.code).toBe(4);
});

test('readProcess gives the output', async () => {
  expect(await readShell('echo a; echo b; echo warning >&2')).toBe('a\nb\n');
});

test.each([
  ['fails', 'echo first >&2; echo the reason >&2; exit 1', undefined, 'sh failed: the reason'],
  ['fails silently', 'exit 7', undefined, 'sh failed: exit code 7'],
  ['does not end', 'sleep 1004', 50, 'sh does not answer within 50 ms'],
  ['says too much', `yes ${'x'.repeat(1000)}`, undefined, 'sh prints more than 4194304 characters'],
])('readProcess throws for a command that %s', async (_, script, timeoutMs, message) => {
  await expect(readShell(script, timeoutMs)).rejects.toThrow(new BackendUnavailable(message));
});

async function runShell(script: string, options: Partial<ProcessOptions> = {}) {
  const lines: string[] = [];
  const onLine: ProcessOptions['onLine'] = (line, from) => lines.push(`${from} ${line}`);
  const end = await runProcess('sh', ['-c', script], { env, signal, onLine, ...options });
  return { end, lines };
}

function readShell(script: string, timeoutMs = 120_000): Promise<string> {
  return readProcess('sh', ['-c', script], { env, signal, timeoutMs });
}

/** Members that got a SIGKILL may need a moment to die. */
async function expectEmptied(group: string | undefined): Promise<void> {
  await expect.poll(() => membersOf(group)).toEqual([]);
}

/** The command lines of what still runs in a process group; what has ended and is not collected yet does not run. */
async function membersOf(group: string | undefined): Promise<readonly string[]> {
  if (!group) throw new Error('no group');
  const ids = (await readdir('/proc')).filter(name => /^\d+$/.test(name));
  const stats = await Promise.all(ids.map(id => readFile(`/proc/${id}/stat`, 'utf8').catch(() => '')));
  return stats.filter(stat => {
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return pgrp === group && state !== 'Z' && state !== 'X';
  });
}
