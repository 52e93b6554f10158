// What buildah says when it gives up: the last lines of its standard error, from `Error:` on, and what its runtime said before.

interface Complaint {
  listen(line: string): void;
  /** What was said does not count: it goes on. */
  forget(): void;
  /** On one line, without `Error:`; empty where nothing was said. */
  find(): string;
}

const RUNTIME = /^error running container: (?:from (\S+) )?(?:creating container for \[[^\]]*\]: )?(.*)$/;
/** Why the runtime could not begin a step, or the machine did not let it. A step that prints the like is tried again in vain, and no more. */
export function createRuntimeComplaint(): Complaint {
  let text = '';
  return {
    listen(line) {
      const [, runtime = 'the runtime', said = ''] = RUNTIME.exec(line.slice(0, MAX_LENGTH)) ?? [];
      if (said !== '') text = `${runtime}: ${said.replace(/: exit status \d+$/, '')}`;
    },
    forget() {
      text = '';
    },
    find: () => text.trim(),
  };
}

const PREFIX = 'Error: ';
const MAX_LENGTH = 4_000;

/** Steps may print the like: the last is buildah's own, since it ends after it. */
export function createComplaint(): Complaint {
  let text = '';
  return {
    listen(line) {
      if (line.startsWith(PREFIX)) text = line.slice(PREFIX.length, MAX_LENGTH);
      else if (text !== '') text = `${text} ${line}`.slice(0, MAX_LENGTH);
    },
    forget() {
      text = '';
    },
    find: () => text.replace(/\s+/g, ' ').trim(),
  };
}
