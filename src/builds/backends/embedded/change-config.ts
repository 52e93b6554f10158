// Instructions that change only the image config.
import { constants } from 'node:os';
import type { CommandLine, Healthcheck, Instruction } from '../../containerfile/container-file.ts';
import type { Work } from '../../work.ts';
import type { ImageState, Run } from './image-config.ts';
import { InvalidStep } from './step.ts';

interface ChangeOptions {
  /** Expands the variables of a word. Throws InvalidSyntax. */
  readonly expand: (text: string) => string;
  /** The same, as any number of words. */
  readonly expandAll: (text: string) => readonly string[];
  readonly work: Work;
  /** Whether the stage has its own CMD, which ENTRYPOINT then does not reset. */
  readonly hasCmd: boolean;
}

interface Changed {
  readonly run?: Run;
  readonly author?: string;
  /** The history entry; undefined: none. */
  readonly text: string | undefined;
}

const DEFAULT_SHELL = ['/bin/sh', '-c'];

/** Undefined for an instruction that changes more than the config. Throws InvalidStep or InvalidSyntax. */
export function changeConfig(
  state: ImageState,
  instruction: Instruction,
  options: ChangeOptions,
): ImageState | undefined {
  const changed = change(state.run, instruction, options);
  if (!changed) return undefined;
  const { run = {}, author = state.author, text } = changed;
  const history = text === undefined ? state.history : [...state.history, historyOf(text, true)];
  return { author, run: { ...state.run, ...run }, history };
}

export function historyOf(text: string, isEmpty: boolean) {
  return { created_by: text, comment: 'buildkit.dockerfile.v0', ...(isEmpty && { empty_layer: true }) };
}

function change(
  run: Run,
  instruction: Instruction,
  { expand, expandAll, work, hasCmd }: ChangeOptions,
): Changed | undefined {
  switch (instruction.kind) {
    case 'env': {
      const pairs = instruction.pairs.map(({ key, value }) => [expand(key), expand(value)] as const);
      work.spend(run.Env?.length ?? 0);
      return {
        run: { Env: setEnv(run.Env ?? [], pairs) },
        text: `ENV ${pairs.map(pair => pair.join('=')).join(' ')}`,
      };
    }
    case 'label': {
      const pairs = instruction.pairs.map(({ key, value }) => [expand(key), expand(value)] as const);
      work.spend(countKeys(run.Labels));
      const Labels = { ...run.Labels, ...Object.fromEntries(pairs) };
      return { run: { Labels }, text: `LABEL ${pairs.map(pair => pair.join('=')).join(' ')}` };
    }
    case 'maintainer':
      return { author: instruction.value, text: `MAINTAINER ${instruction.value}` };
    case 'user': {
      const User = expand(instruction.value);
      return { run: { User }, text: `USER ${User}` };
    }
    case 'stopsignal': {
      const StopSignal = checkSignal(expand(instruction.value));
      return { run: { StopSignal }, text: `STOPSIGNAL ${StopSignal}` };
    }
    case 'shell':
      return { run: { Shell: [...instruction.shell] }, text: `SHELL [${instruction.shell.join(' ')}]` };
    case 'cmd': {
      const Cmd = commandOf(run, instruction.command);
      return { run: { Cmd }, text: `CMD ${JSON.stringify(Cmd)}` };
    }
    case 'entrypoint': {
      const Entrypoint = commandOf(run, instruction.command);
      return { run: { Entrypoint, ...(!hasCmd && { Cmd: null }) }, text: `ENTRYPOINT ${JSON.stringify(Entrypoint)}` };
    }
    case 'expose': {
      work.spend(countKeys(run.ExposedPorts));
      const ports = instruction.values.flatMap(expandAll).flatMap(text => parsePorts(text, work));
      const ExposedPorts = { ...run.ExposedPorts, ...Object.fromEntries(ports.map(port => [port, {}])) };
      return { run: { ExposedPorts }, text: `EXPOSE [${ports.join(' ')}]` };
    }
    case 'volume': {
      work.spend(countKeys(run.Volumes));
      const volumes = instruction.values.map(expand);
      const Volumes = { ...run.Volumes, ...Object.fromEntries(volumes.map(volume => [volume, {}])) };
      return { run: { Volumes }, text: `VOLUME [${volumes.join(' ')}]` };
    }
    case 'healthcheck':
      return { run: { Healthcheck: encodeHealthcheck(instruction.healthcheck) }, text: instruction.code };
    case 'onbuild':
      return { run: { OnBuild: [...(run.OnBuild ?? []), instruction.trigger] }, text: undefined };
    default:
      return undefined;
  }
}

function countKeys(map: Readonly<Record<string, unknown>> | null | undefined): number {
  return Object.keys(map ?? {}).length;
}

/** Replaces the first of that name, or is appended. */
function setEnv(env: readonly string[], pairs: readonly (readonly [key: string, value: string])[]): string[] {
  const result = [...env];
  const places = new Map(env.map((entry, at): [string, number] => [entry.split('=', 1)[0] ?? '', at]).reverse());
  for (const [key, value] of pairs) {
    const place = places.get(key) ?? result.length;
    places.set(key, place);
    result[place] = `${key}=${value}`;
  }
  return result;
}

function commandOf({ Shell }: Run, command: CommandLine): string[] {
  if (command.form === 'exec') return [...command.args];
  return [...(Shell && Shell.length > 0 ? Shell : DEFAULT_SHELL), command.text];
}

const PORT =
  /^(?:(?<ip>\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:.]*):)?(?:(?<host>\d+(?:-\d+)?)?:)?(?<ports>\d+(?:-\d+)?)(?:\/(?<protocol>\w*))?$/;

const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'];

const MAX_PORT = 65535;

const STEPS_OF_A_PORT = 8;

/** As in an image config: `80/tcp`, one for each port of a range. Throws InvalidStep. */
export function parsePorts(text: string, work: Work): readonly string[] {
  const { ports = '', protocol } = PORT.exec(text)?.groups ?? {};
  const [first = '', last = first] = ports.split('-');
  const [start, end] = [Number(first || Number.NaN), Number(last || Number.NaN)];
  const name = protocol?.toLowerCase() || 'tcp';
  if (!(start <= end && end <= MAX_PORT) || !PROTOCOLS.includes(name)) {
    throw new InvalidStep(`${JSON.stringify(text.slice(0, 80))} is not a port; write it as 80, 53/udp or 8000-8010`);
  }
  work.spend((end - start) * STEPS_OF_A_PORT);
  return Array.from({ length: end - start + 1 }, (_, i) => `${start + i}/${name}`);
}

const MAX_SIGNAL = 64;

/** Signals of Linux that this system may lack. */
const MORE = ['SIGCLD', 'SIGSTKFLT', 'SIGPOLL', 'SIGPWR'];

const REALTIME = /^SIGRTM(?:IN(?:\+(?:[1-9]|1[0-5]))?|AX(?:-(?:[1-9]|1[0-4]))?)$/;

/** The unchanged text. Throws InvalidStep. */
export function checkSignal(text: string): string {
  const number = /^\d{1,3}$/.test(text) ? Number(text) : undefined;
  const name = text.toUpperCase().startsWith('SIG') ? text.toUpperCase() : `SIG${text.toUpperCase()}`;
  const isName = Object.hasOwn(constants.signals, name) || MORE.includes(name) || REALTIME.test(name);
  if (number === undefined ? isName : number > 0 && number <= MAX_SIGNAL) return text;
  throw new InvalidStep(`${JSON.stringify(text.slice(0, 80))} is not a signal; write it as SIGTERM or 15`);
}

/** Absent values are the engine's defaults. */
function encodeHealthcheck({
  test,
  interval,
  timeout,
  startPeriod,
  startInterval,
  retries,
}: Healthcheck): NonNullable<Run['Healthcheck']> {
  return {
    Test: [...test],
    ...(interval !== 0 && { Interval: interval }),
    ...(timeout !== 0 && { Timeout: timeout }),
    ...(startPeriod !== 0 && { StartPeriod: startPeriod }),
    ...(startInterval !== 0 && { StartInterval: startInterval }),
    ...(retries !== 0 && { Retries: retries }),
  };
}
