// What a build's own folder of docker has.
import { mkdir, mkdtemp, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeDockerFolder } from '../../../../src/builds/backends/docker/client.ts';

let root: string;
let home: string;
let folder: string;
const credentials = new Map([['h:1', { username: 'u', password: 'p' }]]);
const auths = { 'h:1': { auth: Buffer.from('u:p').toString('base64') } };

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'veneer-folder-'));
  [home, folder] = [join(root, 'home'), join(root, 'own')];
  await mkdir(home);
  await mkdir(folder);
});

afterEach(() => rm(root, { recursive: true }));

test("has the build's credentials, and finds the plugins and contexts of the user", async () => {
  const own = { auths: { other: { auth: 'canary' } }, credsStore: 'desktop', currentContext: 'far' };
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...own, cliPluginsExtraDirs: ['/plugins'] }));
  await writeDockerFolder(home, folder, credentials);
  const cliPluginsExtraDirs = [join(folder, 'cli-plugins'), '/plugins'];
  expect(await readConfig()).toEqual({ auths, currentContext: 'far', cliPluginsExtraDirs });
  expect(await readlink(join(home, 'contexts'))).toBe(join(folder, 'contexts'));
  expect((await stat(join(home, 'config.json'))).mode & 0o777).toBe(0o600);
});

test.each([
  ['there is none', undefined],
  ['it is no JSON', '{'],
  ['it is of another form', '{"currentContext": 1}'],
])('needs no config.json of the user: %s', async (_, text) => {
  if (text !== undefined) await writeFile(join(folder, 'config.json'), text);
  await writeDockerFolder(home, folder, credentials);
  expect(await readConfig()).toEqual({ auths, cliPluginsExtraDirs: [join(folder, 'cli-plugins')] });
});

async function readConfig(): Promise<unknown> {
  return JSON.parse(await readFile(join(home, 'config.json'), 'utf8'));
}
