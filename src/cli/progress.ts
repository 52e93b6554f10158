// The progress of a build or an upload: bars on a terminal, else lines.
import type { MultiBar, SingleBar } from 'cli-progress';
import type { LogEntry } from '../builds/progress.ts';
import { plainText } from './output.ts';

export interface ProgressView {
  show(entry: LogEntry): void;
  /** Ends the display. If the build failed, the last lines of its output remain. */
  close(end: { readonly isFailed: boolean }): void;
}

const TAIL_LINES = 20;

/** For a terminal: a bar for each platform and, if the build fails, the last lines of its output. */
export async function createBarView(terminal: NodeJS.WritableStream): Promise<ProgressView> {
  const counter = createStepCounter();
  const bars = new Map<string, SingleBar>();
  const tail: string[] = [];
  const container = await openBars(terminal, '{platform} {bar} {value}/{total} {step}');

  return {
    show(entry) {
      const line = entry.kind === 'step' && entry.state !== 'failed' ? undefined : formatEntry(entry);
      if (line !== undefined) tail.push(line);
      if (tail.length > TAIL_LINES) tail.shift();
      const progress = counter.count(entry);
      if (!progress) return;
      const { platform, done, total } = progress;
      const words = { platform: plainText(platform).padEnd(14), step: plainText(progress.step) };
      const bar = bars.get(platform) ?? container.create(total, 0, words);
      bars.set(platform, bar);
      bar.setTotal(total);
      bar.update(done, words);
    },
    close({ isFailed }) {
      container.stop();
      if (isFailed) for (const line of tail) terminal.write(`${line}\n`);
    },
  };
}

export interface ByteBar {
  update(bytes: number): void;
  close(): void;
}

/** For uploads: `name` describes what is sent. */
export async function loadByteBar(
  terminal: NodeJS.WritableStream,
): Promise<(name: string, totalBytes: number) => ByteBar> {
  const container = await openBars(terminal, '{name} {bar} {percentage}%');
  return (name, totalBytes) => {
    const bar = container.create(totalBytes, 0, { name: plainText(name) });
    return { update: bytes => bar.update(bytes), close: () => container.stop() };
  };
}

/** The library is only loaded here: most commands, and the service, show no bar. */
async function openBars(terminal: NodeJS.WritableStream, format: string): Promise<MultiBar> {
  const { MultiBar, Presets } = await import('cli-progress');
  // An interrupt is ours to answer: the library would end the process.
  const options = { stream: terminal, format, barsize: 24, hideCursor: true, gracefulExit: false };
  return new MultiBar(options, Presets.shades_classic);
}

/** Without a terminal: one line per entry. */
export function createLineView(writeLine: (line: string) => void): ProgressView {
  return {
    show(entry) {
      const line = formatEntry(entry);
      if (line !== undefined) writeLine(line);
    },
    close() {},
  };
}

/** Undefined for an entry that only reports progress. */
export function formatEntry({ kind, platform, step, state, text }: LogEntry): string | undefined {
  if (kind === 'step') return state && plainText(`${nameOf(step, platform)}${ENDINGS[state]}${text ? ` ${text}` : ''}`);
  if (text === undefined) return undefined;
  return plainText(kind === 'output' && platform !== undefined ? `${platform} | ${text}` : text);
}

const ENDINGS: Readonly<Record<NonNullable<LogEntry['state']>, string>> = {
  started: '',
  done: ': done',
  cached: ': cached',
  failed: ': failed',
};

/** Adds the platform, unless the step names it. */
function nameOf(step = 'step', platform: string | undefined): string {
  return platform === undefined || step.includes(platform) ? step : `[${platform}] ${step}`;
}

interface PlatformProgress {
  /** `build` for the steps that belong to no platform. */
  readonly platform: string;
  readonly done: number;
  readonly total: number;
  /** The step that started or ended last. */
  readonly step: string;
}

interface StepCounter {
  /** The progress of the entry's platform; undefined if the entry is not about a step. */
  count(entry: LogEntry): PlatformProgress | undefined;
}

interface Steps {
  readonly known: Set<string>;
  readonly done: Set<string>;
}

/** Counts the finished and the known steps of each platform. */
export function createStepCounter(): StepCounter {
  const platforms = new Map<string, Steps>();
  return {
    count({ kind, platform = 'build', step, state }) {
      if (kind !== 'step' || step === undefined) return undefined;
      const { known, done } = platforms.get(platform) ?? { known: new Set(), done: new Set() };
      platforms.set(platform, { known, done });
      known.add(step);
      if (state === 'done' || state === 'cached') done.add(step);
      return { platform, done: done.size, total: countOf(known), step };
    },
  };
}

/** A step such as `[linux/arm64 build 2/3] RUN make` shows how many its stage has. */
function countOf(steps: ReadonlySet<string>): number {
  const stages = new Map<string, number>();
  for (const step of steps) {
    const [, stage, total] = /^(\[(?:[^\]]* )?)\d{1,4}\/(\d{1,4})\]/.exec(step) ?? [];
    stages.set(stage ?? step, Number(total ?? 1));
  }
  return stages.values().reduce((sum, total) => sum + total, 0);
}
