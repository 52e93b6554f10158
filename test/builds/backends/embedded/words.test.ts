// The small languages in arguments: modes, ports, signals, wildcards.
import { expect, test } from 'vitest';
import { checkSignal, parsePorts } from '../../../../src/builds/backends/embedded/change-config.ts';
import { parseMode } from '../../../../src/builds/backends/embedded/chown-chmod.ts';
import { findMatches } from '../../../../src/builds/backends/embedded/copy-step.ts';
import {
  createFile,
  type DirectoryNode,
  emptyDirectory,
  type Node,
} from '../../../../src/builds/backends/embedded/file-system.ts';
import { createWork } from '../../../../src/builds/work.ts';
import { plentyOfWork } from '../../../support/plenty-of-work.ts';

test.each<[text: string, before: number, after: number, isDirectory?: boolean]>([
  ['644', 0o755, 0o644],
  ['0', 0o755, 0],
  ['7777', 0, 0o7777],
  ['u+x', 0o644, 0o744],
  ['+x', 0o644, 0o755],
  ['a-w', 0o666, 0o444],
  ['go=', 0o777, 0o700],
  ['u=rwX,go=rX', 0o600, 0o644],
  ['u=rwX,go=rX', 0o700, 0o755],
  ['u=rwX,go=rX', 0o600, 0o755, true],
  ['g=u,o=g', 0o640, 0o666],
  ['u+s,g+s', 0o755, 0o6755],
  ['u-s', 0o4755, 0o755],
  ['+t', 0o777, 0o1777],
  ['u+r-w', 0o200, 0o400],
])('%s makes %o out of a mode', (text, before, after, isDirectory = false) => {
  expect(parseMode(text)(before, isDirectory)).toBe(after);
});

test.each(['', '8', '10000', 'u', 'x+r', 'u+q', 'u+x,', '00000000000000000001'])('takes %j for no mode', text => {
  expect(() => parseMode(text)).toThrow(/--chmod/);
});

test.each<[text: string, ports: readonly string[]]>([
  ['80', ['80/tcp']],
  ['53/UDP', ['53/udp']],
  ['8000-8002/sctp', ['8000/sctp', '8001/sctp', '8002/sctp']],
  ['8080:80', ['80/tcp']],
  ['127.0.0.1:8080:80', ['80/tcp']],
  ['80/', ['80/tcp']],
])('reads the ports of %s', (text, ports) => {
  expect(parsePorts(text, plentyOfWork())).toEqual(ports);
});

test.each(['', 'x', '70000', '9-8', '80/icmp', '1-', '-1', '80:'])('takes %j for no port', text => {
  expect(() => parsePorts(text, plentyOfWork())).toThrow(/is not a port/);
});

test.each(['SIGTERM', 'kill', '9', 'SIGRTMIN+3', 'SIGRTMAX'])('takes %s for a signal', text => {
  expect(checkSignal(text)).toBe(text);
});

test.each(['', '0', '99', 'SIGNO', 'TERM 9', 'SIGRTMIN+99'])('takes %j for no signal', text => {
  expect(() => checkSignal(text)).toThrow(/is not a signal/);
});

const leaf = createFile(new Uint8Array(0), 0o644);

function directory(children: Readonly<Record<string, Node>>): DirectoryNode {
  return { ...emptyDirectory, children: new Map(Object.entries(children)) };
}

const tree = directory({
  'a.txt': leaf,
  'b.txt': leaf,
  'c*': leaf,
  dir: directory({ x1: leaf, x2: leaf, sub: directory({ y: leaf }) }),
});

test.each<[pattern: string, paths: readonly string[]]>([
  ['a.txt', ['a.txt']],
  ['none', ['none']],
  ['*.txt', ['a.txt', 'b.txt']],
  ['?.txt', ['a.txt', 'b.txt']],
  ['[b-z]*', ['b.txt', 'c*', 'dir']],
  ['[^a]*.txt', ['b.txt']],
  ['c\\*', ['c\\*']],
  ['[c]\\*', ['c*']],
  ['*/x*', ['dir/x1', 'dir/x2']],
  ['dir/*/y', ['dir/sub/y']],
  ['no*', []],
  ['./dir/../*.txt', ['a.txt', 'b.txt']],
  ['a**', ['a.txt']],
])('%s means what it matches', async (pattern, paths) => {
  const found = await findMatches(tree, pattern, plentyOfWork());
  expect(found.map(path => path.join('/'))).toEqual(paths);
});

test('is done soon with a name and a pattern that nearly match', async () => {
  const long = directory({ ['a'.repeat(250)]: leaf });
  const work = createWork({ maxSteps: 250 * 250, what: 'a wildcard' });
  expect(await findMatches(long, `${'*a'.repeat(100)}b`, work)).toEqual([]);
});
