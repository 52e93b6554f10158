// Which BuildKits share our network, and what their steps get then.
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { buildArguments } from '../../../../src/builds/backends/buildkit/command.ts';
import {
  findUnsupportedNetwork,
  networkOf,
  reportNetwork,
  type StepNetwork,
  sharesOurNetwork,
} from '../../../../src/builds/backends/buildkit/network.ts';
import { planWorkspace } from '../../../../src/builds/backends/buildkit/workspace.ts';
import { plainOrder, plainSpec } from '../../../support/plain-order.ts';

test.runIf(process.platform === 'linux')('a socket is of our network where its server listens in it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-socket-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await symlink(folder, `${folder}-link`);
  onTestFinished(() => rm(`${folder}-link`));
  const path = join(folder, 'buildkitd.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  expect(await sharesOurNetwork(`unix://${path}`)).toBe(true);
  expect(await sharesOurNetwork(`unix://${folder}-link/buildkitd.sock`)).toBe(true);
  expect(await sharesOurNetwork(`unix://${folder}/other.sock`)).toBe(false);
  server.close();
});

test.each([
  ['tcp://127.0.0.1:1234', true],
  ['tcp://127.9.9.9:1234', true],
  ['tcp://localhost:1234', true],
  ['tcp://[::1]:1234', true],
  ['tcp://builder.example:1234', false],
  ['tcp://192.0.2.77:1234', false],
  ['docker-container://buildkitd', false],
  ['no address', false],
])('%s is of our network: %s', async (address, expected) => {
  expect(await sharesOurNetwork(address)).toBe(expected);
});

test.each<[StepNetwork, 'default' | 'none' | 'host', string]>([
  ['own', 'default', 'default'],
  ['none', 'default', 'none'],
  ['host', 'default', 'default'],
  ['none', 'none', 'none'],
  ['none', 'host', 'host'],
])('steps with the network "%s" get for "%s": %s', (steps, network, expected) => {
  expect(networkOf(plainSpec({ network }), steps)).toBe(expected);
});

test('BuildKit is asked for what steps get', () => {
  const order = plainOrder();
  const args = buildArguments(order, planWorkspace(order), 'none');
  expect(args.join(' ')).toContain('--opt force-network-mode=none');
});

test('anyone who builds with a RUN that has no network is told why', () => {
  const notesOf = (containerFile: string, steps: StepNetwork) => {
    const notes: unknown[] = [];
    reportNetwork(plainSpec({ containerFile }), steps, ({ text }) => notes.push(text));
    return notes;
  };
  expect(notesOf('FROM scratch\nRUN a\n', 'none')).toEqual([
    expect.stringMatching(/^a RUN has no network.*hostNetwork: true/),
  ]);
  expect(notesOf('FROM scratch\nCOPY a /\n', 'none')).toEqual([]);
  expect(notesOf('FROM scratch\nRUN a\n', 'own')).toEqual([]);
});

test('a frontend of the file, which runs as it likes, is not run in our network', () => {
  const spec = plainSpec({ containerFile: '# syntax=example.com/own\nFROM scratch\n' });
  expect(findUnsupportedNetwork(spec, 'none')).toMatch(/example.com\/own/);
  expect(findUnsupportedNetwork(spec, 'own')).toBeUndefined();
  expect(
    findUnsupportedNetwork(plainSpec({ containerFile: '# syntax=docker/dockerfile:1\nFROM scratch\n' }), 'none'),
  ).toBeUndefined();
});
