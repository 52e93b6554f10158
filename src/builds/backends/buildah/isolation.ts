// How a RUN is kept from this machine: found out by trying, since runtimes, cgroups, user namespaces and networks fail each in a way of its own.

export const isolations = ['oci', 'rootless', 'chroot'] as const;
/** How a RUN is kept from the machine: by a runtime, by a runtime without root, or hardly at all. */
export type Isolation = (typeof isolations)[number];

/** How buildah is run, for its steps to be kept from the machine. */
export interface RunWay {
  readonly isolation: Isolation;
  /** The OCI runtime; absent: buildah's own choice. */
  readonly runtime: string | undefined;
  /** What a RUN has that asks for no other: a network of its own, none, or that of the machine. */
  readonly network: 'private' | 'none' | 'host';
  /**
   * A command in front of buildah's, which gives it processes of its own, so that none outlives it. With chroot a RUN has what buildah has:
   * then also a network.
   */
  readonly wrapper: readonly string[];
}

/** Whether buildah itself has no network: what it reads has to be there before, and its steps have none, whatever they are given. */
export function isCutOff({ wrapper }: RunWay): boolean {
  return wrapper.includes('--net');
}

export interface Ability {
  readonly way: RunWay;
  /** Why no RUN works. */
  readonly fault?: string;
  /** What a RUN lacks, or is not kept from, in words for people. */
  readonly note?: string;
}

export interface IsolationOptions {
  readonly isolation: Isolation;
  readonly runtime: string | undefined;
  /** Whether a RUN may have the network of the machine, its loopback address too. */
  readonly hasHostNetwork: boolean;
  readonly isRoot: boolean;
}

export interface Trials {
  /** Why a RUN fails in this way; undefined where it works. */
  readonly tryRun: (way: RunWay) => Promise<string | undefined>;
  /** Why the command fails; undefined where it works. */
  readonly tryCommand: (command: readonly string[]) => Promise<string | undefined>;
  /** Enters the namespaces of this user's images; empty for root. */
  readonly enter: readonly string[];
  /** Whether the network that this buildah gives to a user who is not root leads to the loopback address of the machine. */
  readonly leaksLoopback: () => Promise<boolean>;
}

const HOST_NOTE = 'a RUN has the network of this machine, and reaches what listens on its loopback address';

export function findAbility(options: IsolationOptions, trials: Trials): Promise<Ability> {
  return options.isolation === 'chroot' ? findChroot(options, trials) : findRuntime(options, trials);
}

async function findRuntime(options: IsolationOptions, trials: Trials): Promise<Ability> {
  const { isolation, runtime, hasHostNetwork } = options;
  const { wrapper } = await findWrapper([], trials);
  const runtimes = runtime === undefined ? [undefined, 'runc', '/usr/sbin/runc', 'crun'] : [runtime];
  const faults: string[] = [];
  for (const each of runtimes) {
    const way: RunWay = { isolation, runtime: each, network: hasHostNetwork ? 'host' : 'none', wrapper };
    const fault = await trials.tryRun(way);
    if (fault === undefined) return hasHostNetwork ? { way, note: HOST_NOTE } : await findNetwork(way, options, trials);
    faults.push(fault);
  }
  const cutOff = hasHostNetwork ? undefined : await findCutOff(options, runtimes, trials);
  if (cutOff) {
    return { way: cutOff, note: `a RUN has no network: ${faults[runtimes.indexOf(cutOff.runtime)]}` };
  }
  return {
    way: { isolation, runtime, network: 'none', wrapper: [] },
    fault: `${faults[0]}; with a runtime that works here, or \`isolation: chroot\`, it does`,
  };
}

/** Some need for no network what they need for one: then they have that of a buildah that has none. */
async function findCutOff(
  { isolation }: IsolationOptions,
  runtimes: readonly (string | undefined)[],
  trials: Trials,
): Promise<RunWay | undefined> {
  const { wrapper, reason } = await findWrapper(['--net'], trials);
  if (reason !== undefined) return undefined;
  for (const runtime of runtimes) {
    const way: RunWay = { isolation, runtime, network: 'host', wrapper };
    if ((await trials.tryRun(way)) === undefined) return way;
  }
  return undefined;
}

async function findNetwork(way: RunWay, { isRoot }: IsolationOptions, trials: Trials): Promise<Ability> {
  const own: RunWay = { ...way, network: 'private' };
  const reason =
    !isRoot && (await trials.leaksLoopback())
      ? 'that of a buildah before 1.32 leads to the loopback address of this machine'
      : await trials.tryRun(own);
  return reason === undefined ? { way: own } : { way, note: `a RUN has no network: ${reason}` };
}

/** Empty where it does not work, with the reason. */
async function findWrapper(
  namespaces: readonly string[],
  { enter, tryCommand }: Trials,
): Promise<{ readonly wrapper: readonly string[]; readonly reason: string | undefined }> {
  const own = ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc', ...namespaces];
  const wrapper = [...enter, 'unshare', ...own, '--', 'sh', '-c', BEGIN, 'sh'];
  const reason = await tryCommand([...wrapper, 'true']);
  return { wrapper: reason === undefined ? wrapper : [], reason };
}

/** A process of our own in front: as the first of its namespace, buildah would not hear that it is to stop. */
const BEGIN = 'ip link set lo up 2>/dev/null; "$@"; exit $?';

async function findChroot({ hasHostNetwork }: IsolationOptions, trials: Trials): Promise<Ability> {
  const { wrapper, reason } = await findWrapper(hasHostNetwork ? [] : ['--net'], trials);
  const network = hasHostNetwork || reason !== undefined ? 'host' : 'none';
  const way: RunWay = { isolation: 'chroot', runtime: undefined, network, wrapper };
  const fault = await trials.tryRun(way);
  if (fault !== undefined) return { way, fault };
  if (reason !== undefined)
    return {
      way,
      note: `a RUN sees the processes of this machine, and ${HOST_NOTE.slice('a RUN '.length)}: ${reason}`,
    };
  return { way, note: hasHostNetwork ? HOST_NOTE : 'a RUN has no network with the isolation chroot' };
}
