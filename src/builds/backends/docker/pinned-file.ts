// Base images pinned in the Containerfile itself, for a BuildKit that is too old for a source policy.
import { writeFile } from 'node:fs/promises';
import type { BuildOrder, PinnedBase } from '../../backend.ts';
import { hasStage } from '../../containerfile/has-stage.ts';
import type { Tell } from '../../progress.ts';

interface PinnedFile {
  readonly text: string;
  /** The bases whose names do not stand in it as they are: they are made of arguments, or are a stage's too. */
  readonly missed: readonly string[];
}

/** Tells of each base that is not pinned. */
export async function writePinnedFile({ spec, bases }: BuildOrder, path: string, tell: Tell): Promise<void> {
  const { text, missed } = pinFile(spec.containerFile, bases);
  await writeFile(path, text, { mode: 0o600 });
  for (const name of missed) {
    tell({ kind: 'note', text: `the BuildKit of this engine is too old to pin ${name}: it is what its tag is now` });
  }
}

/** Puts what the bases are pinned to in the place of their names, after FROM and --from=. */
export function pinFile(containerFile: string, bases: ReadonlyMap<string, PinnedBase>): PinnedFile {
  const missed: string[] = [];
  let text = containerFile;
  for (const [name, base] of bases) {
    const pinned = hasStage(containerFile, name) ? text : replaceName(text, name, base.name);
    if (pinned === text) missed.push(name);
    text = pinned;
  }
  return { text, missed };
}

function replaceName(text: string, name: string, pinned: string): string {
  const use = new RegExp(`(^[ \\t]*FROM[ \\t]+(?:--\\S+[ \\t]+)*|--from=)${escapePattern(name)}(?=\\s|$)`, 'gim');
  return text.replace(use, (_, before: string) => `${before}${pinned}`);
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
