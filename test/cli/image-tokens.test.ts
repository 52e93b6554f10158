// `veneer token ls --images` and `revoke`: what a running service gave out in names of images, one by one and by workflow.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createTokenCommand } from '../../src/cli/token.ts';
import { basic, htpasswdOf, temporaryDirectory } from '../access/fixture.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { runCommand } from './run.ts';

async function start(config: Record<string, unknown> = {}): Promise<{ readonly app: TestApp; readonly host: string }> {
  const app = await startApp({ config });
  onTestFinished(() => app.close());
  app.putImage();
  const listening = await app.listen();
  onTestFinished(async () => listening[Symbol.asyncDispose]());
  return { app, host: listening.host };
}

function run(args: readonly string[], host: string, token?: string) {
  const command = createTokenCommand({
    findRecords() {
      throw new Error('tokens in names of images are those of a running service');
    },
    findService: () => ({ url: new URL(`http://${host}`), token }),
    ...{ stdin: process.stdin, terminal: undefined, listenForInterrupt: () => new AbortController().signal },
  });
  return runCommand(command, args);
}

test('lists them with their workflow, and revokes one or all of a workflow', async () => {
  const { app, host } = await start();
  const [one, two, other] = [
    await app.submit({ workflowId: 'wf-1' }),
    await app.submit({ workflowId: 'wf-1' }),
    await app.submit({ workflowId: 'wf-2' }),
  ];
  const plain = await app.submit();
  const all = JSON.parse((await run(['ls', '--images', '--json'], host)).out);
  expect(all.map(({ token }: { readonly token: string }) => token).sort()).toEqual(
    [one, two, other, plain].map(({ token }) => token).sort(),
  );
  const { out } = await run(['ls', '--workflow', 'wf-2'], host);
  expect(out).toMatch(new RegExp(`^TOKEN .*\\n${other.token} .* wf-2 .*${app.image}\\n$`));

  const revoked = await run(['revoke', '--workflow', 'wf-1'], host);
  expect(revoked).toEqual({ out: '', err: '2 tokens of the workflow wf-1 revoked\n', exitCode: 0 });
  for (const { name } of [one, two]) expect((await app.request(`/v2/${name}/manifests/1`)).status).toBe(404);
  expect((await app.request(`/v2/${other.name}/manifests/1`)).status).toBe(200);

  expect((await run(['revoke', '--images', plain.token], host)).exitCode).toBe(0);
  expect((await app.request(`/v2/${plain.name}/manifests/1`)).status).toBe(404);
  expect((await run(['revoke', '--images', plain.token], host)).err).toContain('there is no such token');
});

test('a caller sees and revokes its own, and anyone who administers all', async () => {
  const folder = await temporaryDirectory();
  const htpasswd = join(folder, 'htpasswd');
  await writeFile(htpasswd, htpasswdOf({ ada: 'secret', bob: 'secret', ops: 'secret' }));
  const grants = [
    { users: ['ada', 'bob'], repositories: ['**'], allow: ['pull'] },
    { users: ['ops'], allow: ['admin'] },
  ];
  const { app, host } = await start({ access: { htpasswd, grants } });
  const submit = async (user: string) => {
    const headers = { authorization: basic(user, 'secret') };
    const body = { containerImage: app.image, workflowId: 'shared', containerConfig: { env: ['A=1'] } };
    expect((await app.request('/v1alpha2/container', { method: 'POST', headers, body })).status).toBe(200);
  };
  await submit('ada');
  await submit('bob');
  const count = async (user?: string) =>
    JSON.parse((await run(['ls', '--images', '--json'], host, user && `${user}:secret`)).out || '[]').length;
  expect([await count('ada'), await count('bob'), await count('ops')]).toEqual([1, 1, 2]);
  expect((await run(['ls', '--images'], host)).exitCode).toBe(1);
  expect((await run(['revoke', '--workflow', 'shared'], host, 'ada:secret')).err).toMatch(/^1 token /);
  expect([await count('ada'), await count('bob')]).toEqual([0, 1]);
  expect((await run(['revoke', '--workflow', 'shared'], host, 'ops:secret')).err).toMatch(/^1 token /);
  expect(await count('bob')).toBe(0);
});
