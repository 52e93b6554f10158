// What is tried in which order, and what a machine comes to where some of it fails.
import { expect, test } from 'vitest';
import {
  detectRunSupport,
  type IsolationOptions,
  type RunMode,
  type RunProbes,
} from '../../../../src/builds/backends/buildah/isolation.ts';

const ROOT: IsolationOptions = { isolation: 'oci', runtime: undefined, hasHostNetwork: false, isRoot: true };
const USER: IsolationOptions = { ...ROOT, isolation: 'rootless', isRoot: false };

/** A machine on which runs fail of these runtimes and networks. */
function machine(fails: readonly string[], { leaks = false, unshares = true } = {}) {
  const tried: string[] = [];
  const trials: RunProbes = {
    async probeRun({ runtime = 'its own', network }: RunMode) {
      tried.push(`${runtime} ${network}`);
      return fails.some(each => each === runtime || each === network) ? `${runtime} with ${network} failed` : undefined;
    },
    probeCommand: async () => (unshares ? undefined : 'not permitted'),
    enter: [],
    leaksLoopback: async () => leaks,
  };
  return { trials, tried };
}

test('a machine on which all works gives a RUN a network of its own', async () => {
  const { trials, tried } = machine([]);
  expect(await detectRunSupport(ROOT, trials)).toEqual({
    mode: {
      isolation: 'oci',
      runtime: undefined,
      network: 'private',
      wrapper: expect.arrayContaining(['unshare', '--pid']),
    },
  });
  expect(tried).toEqual(['its own none', 'its own private']);
});

test('another runtime is taken where the first does not run', async () => {
  const { trials } = machine(['its own', 'runc']);
  expect((await detectRunSupport(ROOT, trials)).mode).toMatchObject({ runtime: '/usr/sbin/runc', network: 'private' });
});

test('a runtime that is configured is the only one that is tried', async () => {
  const { trials, tried } = machine(['crun']);
  const { fault } = await detectRunSupport({ ...ROOT, runtime: 'crun' }, trials);
  expect(fault).toMatch(/^crun with none failed; /);
  expect(tried).toEqual(['crun none', 'crun host']);
});

test('a RUN has no network where there is none of its own, and it is said why', async () => {
  const { trials } = machine(['private']);
  expect(await detectRunSupport(ROOT, trials)).toMatchObject({
    mode: { network: 'none' },
    note: 'a RUN has no network: its own with private failed',
  });
});

test.each([
  [true, 'none'],
  [false, 'private'],
] as const)('a network of a user that leads to the loopback address (%s) is not taken', async (leaks, network) => {
  expect((await detectRunSupport(USER, machine([], { leaks }).trials)).mode.network).toBe(network);
});

test.each([ROOT, USER])(
  'the network of the machine is for who has configured it, and that is said: %j',
  async options => {
    const { mode, note } = await detectRunSupport({ ...options, hasHostNetwork: true }, machine([]).trials);
    expect(mode.network).toBe('host');
    expect(note).toMatch(/reaches what listens on its loopback address/);
  },
);

test('a user whose runtime needs for no network what it needs for one has that of a buildah without', async () => {
  const { trials, tried } = machine(['its own', 'none', 'private']);
  const { mode, note } = await detectRunSupport(USER, trials);
  expect(mode).toMatchObject({ runtime: 'runc', network: 'host', wrapper: expect.arrayContaining(['--net']) });
  expect(note).toBe('a RUN has no network: runc with none failed');
  expect(tried.slice(-2)).toEqual(['its own host', 'runc host']);
});

test('where nothing works there is no RUN, for the reason of the first', async () => {
  expect((await detectRunSupport(ROOT, machine(['none', 'host']).trials)).fault).toMatch(/^its own with none failed; /);
});

test('chroot gets processes and a network of its own from what is in front of it', async () => {
  const { mode, note } = await detectRunSupport({ ...ROOT, isolation: 'chroot' }, machine([]).trials);
  expect(mode.wrapper).toEqual(expect.arrayContaining(['unshare', '--pid', '--net', '--mount-proc']));
  expect(note).toBe('a RUN has no network with the isolation chroot');
});

test('chroot without them is what was configured, and it is said what that means', async () => {
  const { mode, note } = await detectRunSupport(
    { ...ROOT, isolation: 'chroot' },
    machine([], { unshares: false }).trials,
  );
  expect(mode).toMatchObject({ network: 'host', wrapper: [] });
  expect(note).toMatch(/sees the processes of this machine, and has the network .*: not permitted$/);
});
