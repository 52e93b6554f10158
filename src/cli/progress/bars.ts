// A build on a terminal: a bar for each platform, and of a build that failed the last lines that its steps printed.
import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import { plainText } from '../plain-text.ts';
import { formatEntry } from './lines.ts';
import { createStepCounter } from './steps.ts';
import type { ProgressView } from './view.ts';

const TAIL_LINES = 20;

export function createBarView(terminal: NodeJS.WritableStream): ProgressView {
  const counter = createStepCounter();
  const bars = new Map<string, SingleBar>();
  const tail: string[] = [];
  const container = openBars(terminal, '{platform} {bar} {value}/{total} {step}');

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

/** For an upload; `name` is what is sent. */
export function createByteBar(terminal: NodeJS.WritableStream, name: string, totalBytes: number): ByteBar {
  const container = openBars(terminal, '{name} {bar} {percentage}%');
  const bar = container.create(totalBytes, 0, { name: plainText(name) });
  return { update: bytes => bar.update(bytes), close: () => container.stop() };
}

function openBars(terminal: NodeJS.WritableStream, format: string): MultiBar {
  // An interrupt is ours to answer: the library would end the process.
  const options = { stream: terminal, format, barsize: 24, hideCursor: true, gracefulExit: false };
  return new MultiBar(options, Presets.shades_classic);
}
