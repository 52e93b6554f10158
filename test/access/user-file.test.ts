// The users are those of the file as it is now.
import { rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AccessFault } from '../../src/access/access.ts';
import { openUserFile } from '../../src/access/user-file.ts';
import { htpasswdOf, temporaryDirectory } from './fixture.ts';

test('reads the file again when it has changed', async () => {
  const { path, file } = await open();
  await writeFile(path, htpasswdOf({ other: 'x' }));
  expect([...(await file.read()).keys()]).toEqual(['other']);
});

test('sees a file that took the place of the one before, though size and time are the same', async () => {
  const { path, file } = await open();
  const time = new Date('2029-01-01');
  await utimes(path, time, time);
  await file.read();
  await writeFile(`${path}.new`, htpasswdOf({ ic: 'x' }));
  await utimes(`${path}.new`, time, time);
  await rename(`${path}.new`, path);
  expect([...(await file.read()).keys()]).toEqual(['ic']);
});

test('does not read a file that is the same', async () => {
  const { file } = await open();
  expect(await file.read()).toBe(await file.read());
});

test('a file with a fault admits nobody, says so once, and heals', async () => {
  const { path, file, faults } = await open();
  await writeFile(path, 'ci:canary\n');
  const refused = { code: 'UNAVAILABLE', status: 503 };
  await Promise.all(Array.from({ length: 5 }, () => expect(file.read()).rejects.toMatchObject(refused)));
  await expect(file.read()).rejects.toMatchObject(refused);
  expect(faults.map(({ message }) => message)).toEqual([expect.stringContaining(`${path}:1: the hash is not bcrypt`)]);
  await writeFile(path, htpasswdOf({ ci: 'x' }));
  expect((await file.read()).size).toBe(1);
});

test('a file that was removed admits nobody', async () => {
  const { path, file, faults } = await open();
  await rm(path);
  for (let i = 0; i < 2; i++) await expect(file.read()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(faults.map(({ message }) => message)).toEqual([expect.stringContaining('(ENOENT)')]);
});

test('a faulty or missing file is a fault at the start', async () => {
  const path = join(await temporaryDirectory(), 'htpasswd');
  const open = () => openUserFile({ path, onFault: () => {} });
  await expect(open()).rejects.toThrow(`cannot read ${path} (ENOENT)`);
  await writeFile(path, 'ci:{SHA}canary\n');
  await expect(open()).rejects.toThrow(AccessFault);
});

async function open() {
  const path = join(await temporaryDirectory(), 'htpasswd');
  await writeFile(path, htpasswdOf({ ci: 'x' }));
  const faults: AccessFault[] = [];
  return { path, faults, file: await openUserFile({ path, onFault: fault => faults.push(fault) }) };
}
