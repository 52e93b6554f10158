// A build as lines, for where no terminal is, and for reading afterwards.
import type { LogEntry } from '../../builds/progress.ts';
import { plainText } from '../plain-text.ts';
import type { ProgressView } from './view.ts';

export function createLineView(writeLine: (line: string) => void): ProgressView {
  return {
    show(entry) {
      const line = formatEntry(entry);
      if (line !== undefined) writeLine(line);
    },
    close() {},
  };
}

/** Undefined for an entry that only counts. */
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

/** A step that names its platform needs no other word for it. */
function nameOf(step = 'step', platform: string | undefined): string {
  return platform === undefined || step.includes(platform) ? step : `[${platform}] ${step}`;
}
