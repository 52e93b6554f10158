// The steps of a running build: reports the start and end of each, and remembers the first real failure. Platform and instruction are parsed from
// the name, such as `[linux/amd64->arm64 build 2/3] RUN make` (BuildKit's prefixCommand).
import { stripVTControlCharacters } from 'node:util';
import { z } from 'zod';
import { formatPlatform, InvalidPlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';
import type { ProgressEvent, Report } from '../../progress.ts';

interface Steps {
  update(vertex: Vertex): void;
  count(status: VertexStatus): void;
  /** Platform and step of a vertex for an event; empty for an unknown vertex. */
  describe(digest: string): Pick<ProgressEvent, 'platform' | 'step'>;
  /** The first step that failed by itself, and was not cancelled after another failure. */
  findFailed(): FailedStep | undefined;
}

export interface FailedStep extends Step {
  readonly name: string;
  readonly error: string;
}

interface Step {
  /** Normalised; the target of a cross compilation. Absent if the name has none. */
  readonly platform: string | undefined;
  /** As the Containerfile has it, such as `RUN make`, white space folded; absent for BuildKit's internal steps. */
  readonly instruction: string | undefined;
}

interface Known extends Step {
  readonly name: string;
  state: ProgressEvent['state'];
  /** The tenths of each part that were reported. */
  readonly parts: Map<string, number>;
}

const MAX_STEPS = 10_000;
const MAX_PARTS = 1_000;
const MAX_LENGTH = 1_000;

/** A step without a platform in its name belongs to the only platform, or to all. */
export function createSteps(platforms: readonly Platform[], report: Report): Steps {
  const asked = platforms.map(formatPlatform);
  const steps = new Map<string, Known>();
  let failed: FailedStep | undefined;

  function learn({ digest, name: spelling }: Vertex): Known | undefined {
    const known = steps.get(digest);
    if (known || steps.size >= MAX_STEPS) return known;
    const name = oneLine(spelling);
    const { platform = asked.length === 1 ? asked[0] : undefined, instruction } = parseStep(name);
    const isAsked = platform !== undefined && asked.includes(platform);
    const step: Known = {
      name,
      platform: isAsked ? platform : undefined,
      instruction,
      state: undefined,
      parts: new Map(),
    };
    steps.set(digest, step);
    return step;
  }

  return {
    update(vertex) {
      const step = learn(vertex);
      if (!step || !vertex.started) return;
      const state = stateOf(vertex, step);
      if (state === step.state) return;
      step.state = state;
      if (state === 'failed' && !isCancelled(vertex.error)) failed ??= { ...step, error: vertex.error };
      report({ kind: 'step', ...labels(step), state, ...(vertex.error && { text: oneLine(vertex.error) }) });
    },
    count({ id, vertex, current, total }) {
      const step = steps.get(vertex);
      if (!step || total <= 0 || (step.parts.size >= MAX_PARTS && !step.parts.has(id))) return;
      const tenths = Math.floor((current / total) * 10);
      if (step.parts.get(id) === tenths) return;
      step.parts.set(id, tenths);
      report({ kind: 'step', ...labels(step), text: oneLine(id), progress: { current, total } });
    },
    describe(digest) {
      const step = steps.get(digest);
      return step ? labels(step) : {};
    },
    findFailed: () => failed,
  };
}

function stateOf({ error, completed, cached }: Vertex, { name, state }: Known): ProgressEvent['state'] {
  if (error) return isHarmless(name) ? 'done' : 'failed';
  if (!completed) return 'started';
  if (cached) return 'cached';
  // Completed without a start: BuildKit announces it before the work itself.
  return state === 'started' ? 'done' : state;
}

function labels({ platform, name }: Known): Pick<ProgressEvent, 'platform' | 'step'> {
  return { ...(platform !== undefined && { platform }), step: name };
}

function isCancelled(error: string): boolean {
  return /context cancell?ed/.test(error);
}

/** A layer cache that is absent or does not answer fails no build. */
function isHarmless(name: string): boolean {
  return name.startsWith('importing cache manifest from ');
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replace(/\s+/g, ' ').trim().slice(0, MAX_LENGTH);
}

const NAME = /^\[(?:(?<platform>[^\s\]/]+\/[^\s\]]+) )?(?<place>[^\]]*)\] (?<rest>.*)$/s;
const NUMBERED = /(?:^|\s)\d+\/\d+$/;
const METADATA = 'load metadata for ';

export function parseStep(name: string): Step {
  const { platform, place = '', rest = '' } = NAME.exec(name)?.groups ?? {};
  return { platform: platform && findPlatform(platform), instruction: findInstruction(place, rest) };
}

function findInstruction(place: string, rest: string): string | undefined {
  if (NUMBERED.test(place)) return rest.replace(/\s+/g, ' ').trim();
  // The first step of a stage is its base, which BuildKit resolves before it counts steps.
  return place.endsWith('internal') && rest.startsWith(METADATA) ? `FROM ${rest.slice(METADATA.length)}` : undefined;
}

function findPlatform(text: string): string | undefined {
  const [base = '', target = base] = text.split('->');
  // The target omits the OS if it is that of the base.
  const platform = /^[^/]+(?:\/v\d+)?$/.test(target) ? `${base.split('/')[0]}/${target}` : target;
  try {
    return formatPlatform(parsePlatform(platform));
  } catch (error) {
    if (error instanceof InvalidPlatform) return undefined;
    throw error;
  }
}

// The lines of `--progress=rawjson`: BuildKit's SolveStatus, client/graph.go. Fields that we do not use are ignored.

const vertexSchema = z.object({
  digest: z.string(),
  name: z.string().default(''),
  started: z.string().nullish(),
  completed: z.string().nullish(),
  cached: z.boolean().default(false),
  error: z.string().default(''),
});

const statusSchema = z.object({
  id: z.string(),
  vertex: z.string(),
  total: z.number().default(0),
  current: z.number().default(0),
});

const logSchema = z.object({
  vertex: z.string(),
  /** 1 is standard output, 2 standard error. */
  stream: z.number().default(1),
  /** Base64. */
  data: z.string().nullish(),
});

const warningSchema = z.object({
  /** Base64. */
  short: z.string().default(''),
});

const solveStatusSchema = z.object({
  vertexes: z.array(vertexSchema).nullish(),
  statuses: z.array(statusSchema).nullish(),
  logs: z.array(logSchema).nullish(),
  warnings: z.array(warningSchema).nullish(),
});

export type SolveStatus = z.output<typeof solveStatusSchema>;
type Vertex = z.output<typeof vertexSchema>;
type VertexStatus = z.output<typeof statusSchema>;
export type VertexLog = z.output<typeof logSchema>;

/** Parses one line; undefined if it is no status. */
export function findSolveStatus(line: string): SolveStatus | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return solveStatusSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
