// Shared parts of the Containerfile templates: base images, additional lines of a request, and quoting for shell commands.
import { RegistryError } from '../../oci/errors.ts';
import { parseReference } from '../../oci/reference.ts';
import { InvalidBuild } from '../request.ts';

export interface Rendered {
  readonly containerFile: string;
  /** The build context: texts by their names. */
  readonly files: Readonly<Record<string, string>>;
}

/** Throws InvalidBuild for an invalid image name. */
export function checkImage(field: string, image: string): string {
  try {
    parseReference(image);
    return image;
  } catch (error) {
    if (error instanceof RegistryError) throw new InvalidBuild(`packages.${field}: ${error.message}`, { cause: error });
    throw error;
  }
}

const INSTRUCTION =
  /^(?:RUN|ENV|ARG|LABEL|WORKDIR|USER|SHELL|ENTRYPOINT|CMD|EXPOSE|VOLUME|STOPSIGNAL|HEALTHCHECK|COPY|ADD)\s+\S/i;

/** Instructions as given, one a line, appended to the file. Throws InvalidBuild for anything but a single instruction. */
export function checkCommands(field: string, commands: readonly string[]): readonly string[] {
  for (const [at, command] of commands.entries()) {
    if (!INSTRUCTION.test(command)) {
      throw new InvalidBuild(`packages.${field}[${at}]: expected an instruction such as "RUN make"`);
    }
    if (/\\\s*$/.test(command))
      throw new InvalidBuild(`packages.${field}[${at}]: it ends with a backslash, which would continue it`);
  }
  return commands;
}

/** Commands of one RUN: each runs only if the previous one succeeded. */
export function chain(commands: readonly string[]): string {
  return commands.join(' \\\n    && ');
}

/** One word of a POSIX shell, with any content but line breaks, which the Containerfile parser would see first. */
export function quoteWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
