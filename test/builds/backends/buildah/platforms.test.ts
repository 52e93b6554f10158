// Which platforms the kernel's list of emulators gives.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { listMachinePlatforms } from '../../../../src/builds/backends/buildah/backend.ts';
import { formatPlatform } from '../../../../src/oci/platform.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-binfmt-'));
});

afterEach(() => rm(folder, { recursive: true }));

test('lists the machine, and what is emulated inside of containers', async () => {
  await handle('qemu-aarch64', 'enabled', 'PF');
  await handle('qemu-arm', 'enabled', 'F');
  await handle('qemu-s390x', 'disabled', 'PF');
  await handle('qemu-riscv64', 'enabled', 'P');
  await handle('qemu-xtensa', 'enabled', 'PF');
  await handle('python3.11', 'enabled', 'PF');
  await handle('status', 'enabled', '');
  expect(await list('linux/amd64')).toEqual([
    'linux/amd64',
    'linux/arm64',
    'linux/arm/v7',
    'linux/arm/v6',
    'linux/arm/v5',
  ]);
});

test('lists each once, under its own name', async () => {
  await handle('qemu-x86_64', 'enabled', 'PF');
  expect(await list('linux/x86_64')).toEqual(['linux/amd64']);
});

test('without the list there is the machine alone', async () => {
  expect((await listMachinePlatforms('linux/arm64', join(folder, 'none'))).map(formatPlatform)).toEqual([
    'linux/arm64',
  ]);
});

function handle(name: string, state: string, flags: string): Promise<void> {
  const text = `${state}\ninterpreter /usr/libexec/${name}\nflags: ${flags}\noffset 0\nmagic 7f454c46\n`;
  return writeFile(join(folder, name), text);
}

async function list(own: string): Promise<readonly string[]> {
  return (await listMachinePlatforms(own, folder)).map(formatPlatform);
}
