// The platforms that this machine runs: its own, and those that binfmt_misc passes to an emulator.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatPlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';

const BINFMT_FOLDER = '/proc/sys/fs/binfmt_misc';

/** By the name of QEMU's handler, without `qemu-`. */
const EMULATED: ReadonlyMap<string, readonly string[]> = new Map([
  ['x86_64', ['linux/amd64']],
  ['i386', ['linux/386']],
  ['aarch64', ['linux/arm64']],
  ['arm', ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5']],
  ['ppc64le', ['linux/ppc64le']],
  ['riscv64', ['linux/riscv64']],
  ['s390x', ['linux/s390x']],
  ['loongarch64', ['linux/loong64']],
  ['mips64el', ['linux/mips64le']],
  ['mips64', ['linux/mips64']],
]);

/** The machine's own platform first; normalised, without duplicates. */
export async function listMachinePlatforms(own: string, folder = BINFMT_FOLDER): Promise<readonly Platform[]> {
  const handlers = await readHandlers(folder);
  const emulated = [...EMULATED].flatMap(([name, platforms]) => (isUsable(handlers.get(name)) ? platforms : []));
  const all = [own, ...emulated].map(parsePlatform);
  return [...new Map(all.map(platform => [formatPlatform(platform), platform])).values()];
}

async function readHandlers(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = await readFolder(folder);
  const handlers = names.filter(name => name.startsWith('qemu-') && EMULATED.has(name.slice('qemu-'.length)));
  return new Map(
    await Promise.all(
      handlers.map(async name => [name.slice('qemu-'.length), await readFile(join(folder, name), 'utf8')] as const),
    ),
  );
}

async function readFolder(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    // Not mounted, or not accessible: nothing is emulated.
    return [];
  }
}

/** Without flag F the kernel looks for the emulator in the image, which has none. */
function isUsable(handler: string | undefined): boolean {
  return handler !== undefined && /^enabled$/m.test(handler) && /^flags: \S*F/m.test(handler);
}
