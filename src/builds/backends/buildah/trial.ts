// A RUN that shows whether RUN works: a program of a few bytes, since there is no image to take another from.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProcessEnd, ProcessOptions } from '../../process.ts';
import { createComplaint, createRuntimeComplaint } from './complaint.ts';

/** What it ends with: no other failure looks like it, and nothing is left in the storage of a build that fails. */
const CODE = 37;

/** For Linux: exit(37). */
const PROGRAMS: Readonly<Record<string, { readonly machine: number; readonly code: readonly number[] }>> = {
  // mov edi, 37; mov eax, 60; syscall
  x64: { machine: 0x3e, code: [0xbf, CODE, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05] },
  // mov x0, 37; mov x8, 93; svc 0
  arm64: { machine: 0xb7, code: [0xa0, 0x04, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4] },
};

type RunBuildah = (args: readonly string[], options: Required<Pick<ProcessOptions, 'onLine'>>) => Promise<ProcessEnd>;

/** Why a RUN fails with these options of `buildah build`; undefined where it works, and on a processor that there is no program for. */
export async function tryRun(run: RunBuildah, options: readonly string[]): Promise<string | undefined> {
  const program = PROGRAMS[process.arch];
  if (!program) return undefined;
  const folder = await mkdtemp(join(tmpdir(), 'veneer-trial-'));
  try {
    await writeFile(join(folder, 'program'), encodeProgram(program), { mode: 0o755 });
    await writeFile(join(folder, 'Containerfile'), 'FROM scratch\nCOPY program /program\nRUN ["/program"]\n');
    const complaint = createComplaint();
    const runtime = createRuntimeComplaint();
    const onLine = (line: string) => {
      complaint.listen(line);
      runtime.listen(line);
    };
    const build = ['build', ...options, '--no-cache', '--layers=false', '--force-rm', folder];
    const { code } = await run(build, { onLine });
    if (new RegExp(`exit status ${CODE}$`).test(complaint.find())) return undefined;
    return runtime.find() || complaint.find().replace(/^building at STEP ".*?": /, '') || `buildah ended with ${code}`;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const BASE = 0x400000n;
const HEADERS = 0x78;

/** ELF of 64 bits: its header, one segment that is the whole file, and the code. */
function encodeProgram({ machine, code }: (typeof PROGRAMS)[string]): Uint8Array {
  const file = Buffer.alloc(HEADERS + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BASE + BigInt(HEADERS), 24);
  file.writeBigUInt64LE(64n, 32);
  for (const [at, value] of [
    [52, 64],
    [54, 56],
    [56, 1],
    [58, 64],
  ] as const)
    file.writeUInt16LE(value, at);
  // Readable and executable.
  file.writeUInt32LE(1, 64);
  file.writeUInt32LE(5, 68);
  for (const at of [80, 88]) file.writeBigUInt64LE(BASE, at);
  for (const at of [96, 104]) file.writeBigUInt64LE(BigInt(file.byteLength), at);
  file.writeBigUInt64LE(0x1000n, 112);
  file.set(code, HEADERS);
  return file;
}
