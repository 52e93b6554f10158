// How a RUN can be isolated from this machine: probed, since runtimes, cgroups, user namespaces and networks each fail in their own way.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProcessEnd, ProcessOptions } from '../../process.ts';
import { createErrorReader, createRuntimeErrorReader } from './failure.ts';

export const isolations = ['oci', 'rootless', 'chroot'] as const;

/** How a RUN is isolated: by a runtime, by a rootless runtime, or hardly at all. */
export type Isolation = (typeof isolations)[number];

/** How buildah is run so that its steps are isolated from the machine. */
export interface RunMode {
  readonly isolation: Isolation;
  /** The OCI runtime; absent: buildah's default. */
  readonly runtime: string | undefined;
  /** The default network of a RUN: its own, none, or that of the machine. */
  readonly network: 'private' | 'none' | 'host';
  /**
   * A command that wraps buildah in a PID namespace, so that no process outlives it. With chroot, where a RUN has buildah's namespaces,
   * also in a network namespace.
   */
  readonly wrapper: readonly string[];
}

/** Whether buildah itself has no network: its images are pulled in advance, and its steps never have a network. */
export function isOffline({ wrapper }: RunMode): boolean {
  return wrapper.includes('--net');
}

export interface RunSupport {
  readonly mode: RunMode;
  /** Why no RUN works. */
  readonly fault?: string;
  /** Display texts: what a RUN lacks, or is not isolated from. */
  readonly note?: string;
}

export interface IsolationOptions {
  readonly isolation: Isolation;
  readonly runtime: string | undefined;
  /** Whether a RUN may have the network of the machine, its loopback address too. */
  readonly hasHostNetwork: boolean;
  readonly isRoot: boolean;
}

export interface RunProbes {
  /** Why a RUN fails in this mode; undefined if it works. */
  readonly probeRun: (mode: RunMode) => Promise<string | undefined>;
  /** Why the command fails; undefined if it works. */
  readonly probeCommand: (command: readonly string[]) => Promise<string | undefined>;
  /** The command that enters this user's namespaces; empty for root. */
  readonly enter: readonly string[];
  /** Whether this buildah's rootless network reaches the loopback address of the machine. */
  readonly leaksLoopback: () => Promise<boolean>;
}

const HOST_NOTE = 'a RUN has the network of this machine, and reaches what listens on its loopback address';

export function detectRunSupport(options: IsolationOptions, trials: RunProbes): Promise<RunSupport> {
  return options.isolation === 'chroot' ? findChroot(options, trials) : findRuntime(options, trials);
}

async function findRuntime(options: IsolationOptions, trials: RunProbes): Promise<RunSupport> {
  const { isolation, runtime, hasHostNetwork } = options;
  const { wrapper } = await findWrapper([], trials);
  const runtimes = runtime === undefined ? [undefined, 'runc', '/usr/sbin/runc', 'crun'] : [runtime];
  const faults: string[] = [];
  for (const each of runtimes) {
    const mode: RunMode = { isolation, runtime: each, network: hasHostNetwork ? 'host' : 'none', wrapper };
    const fault = await trials.probeRun(mode);
    if (fault === undefined)
      return hasHostNetwork ? { mode, note: HOST_NOTE } : await findNetwork(mode, options, trials);
    faults.push(fault);
  }
  const cutOff = hasHostNetwork ? undefined : await findCutOff(options, runtimes, trials);
  if (cutOff) {
    return { mode: cutOff, note: `a RUN has no network: ${faults[runtimes.indexOf(cutOff.runtime)]}` };
  }
  return {
    mode: { isolation, runtime, network: 'none', wrapper: [] },
    fault: `${faults[0]}; with a runtime that works here, or \`isolation: chroot\`, it does`,
  };
}

/** Some runtimes cannot even set up an empty network: then steps share that of a buildah without one. */
async function findCutOff(
  { isolation }: IsolationOptions,
  runtimes: readonly (string | undefined)[],
  trials: RunProbes,
): Promise<RunMode | undefined> {
  const { wrapper, reason } = await findWrapper(['--net'], trials);
  if (reason !== undefined) return undefined;
  for (const runtime of runtimes) {
    const mode: RunMode = { isolation, runtime, network: 'host', wrapper };
    if ((await trials.probeRun(mode)) === undefined) return mode;
  }
  return undefined;
}

async function findNetwork(mode: RunMode, { isRoot }: IsolationOptions, trials: RunProbes): Promise<RunSupport> {
  const own: RunMode = { ...mode, network: 'private' };
  const reason =
    !isRoot && (await trials.leaksLoopback())
      ? 'that of a buildah before 1.32 leads to the loopback address of this machine'
      : await trials.probeRun(own);
  return reason === undefined ? { mode: own } : { mode, note: `a RUN has no network: ${reason}` };
}

/** Empty if it does not work, with the reason. */
async function findWrapper(
  namespaces: readonly string[],
  { enter, probeCommand }: RunProbes,
): Promise<{ readonly wrapper: readonly string[]; readonly reason: string | undefined }> {
  const own = ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc', ...namespaces];
  const wrapper = [...enter, 'unshare', ...own, '--', 'sh', '-c', BEGIN, 'sh'];
  const reason = await probeCommand([...wrapper, 'true']);
  return { wrapper: reason === undefined ? wrapper : [], reason };
}

/** A shell as PID 1: in its place, buildah would not receive SIGTERM. */
const BEGIN = 'ip link set lo up 2>/dev/null; "$@"; exit $?';

async function findChroot({ hasHostNetwork }: IsolationOptions, trials: RunProbes): Promise<RunSupport> {
  const { wrapper, reason } = await findWrapper(hasHostNetwork ? [] : ['--net'], trials);
  const network = hasHostNetwork || reason !== undefined ? 'host' : 'none';
  const mode: RunMode = { isolation: 'chroot', runtime: undefined, network, wrapper };
  const fault = await trials.probeRun(mode);
  if (fault !== undefined) return { mode, fault };
  if (reason !== undefined)
    return {
      mode,
      note: `a RUN sees the processes of this machine, and ${HOST_NOTE.slice('a RUN '.length)}: ${reason}`,
    };
  return { mode, note: hasHostNetwork ? HOST_NOTE : 'a RUN has no network with the isolation chroot' };
}

/** The program's exit code: no other failure has it, and a failed build leaves nothing in the storage. */
const CODE = 37;

/** For Linux: exit(37). */
const PROGRAMS: Readonly<Record<string, { readonly machine: number; readonly code: readonly number[] }>> = {
  // mov edi, 37; mov eax, 60; syscall
  x64: { machine: 0x3e, code: [0xbf, CODE, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05] },
  // mov x0, 37; mov x8, 93; svc 0
  arm64: { machine: 0xb7, code: [0xa0, 0x04, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4] },
};

type RunBuildah = (args: readonly string[], options: Required<Pick<ProcessOptions, 'onLine'>>) => Promise<ProcessEnd>;

/**
 * Runs a program of a few bytes, since there is no image to take one from. Why it fails with these options of `buildah build`; undefined if
 * it works, or there is no program for this processor.
 */
export async function probeRun(run: RunBuildah, options: readonly string[]): Promise<string | undefined> {
  const program = PROGRAMS[process.arch];
  if (!program) return undefined;
  const folder = await mkdtemp(join(tmpdir(), 'veneer-trial-'));
  try {
    await writeFile(join(folder, 'program'), encodeProgram(program), { mode: 0o755 });
    await writeFile(join(folder, 'Containerfile'), 'FROM scratch\nCOPY program /program\nRUN ["/program"]\n');
    const complaint = createErrorReader();
    const runtime = createRuntimeErrorReader();
    const onLine = (line: string) => {
      complaint.read(line);
      runtime.read(line);
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

/** A 64-bit ELF: header, one segment that is the whole file, code. */
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
