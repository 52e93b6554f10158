// What the name of a vertex says: `[linux/amd64->arm64 build 2/3] RUN make`, BuildKit's prefixCommand.
import { formatPlatform, InvalidPlatform, parsePlatform } from '../../../oci/platform.ts';

export interface Step {
  /** Normalised: of a cross compilation the one that it is for. Absent where the name has none. */
  readonly platform: string | undefined;
  /** As the Containerfile has it, such as `RUN make`, white space folded; absent for what BuildKit does of its own. */
  readonly instruction: string | undefined;
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
  // The first step of a stage is its base: BuildKit looks it up before it counts the steps.
  return place.endsWith('internal') && rest.startsWith(METADATA) ? `FROM ${rest.slice(METADATA.length)}` : undefined;
}

function findPlatform(text: string): string | undefined {
  const [base = '', target = base] = text.split('->');
  // A target with the os of the base comes without it.
  const platform = /^[^/]+(?:\/v\d+)?$/.test(target) ? `${base.split('/')[0]}/${target}` : target;
  try {
    return formatPlatform(parsePlatform(platform));
  } catch (error) {
    if (error instanceof InvalidPlatform) return undefined;
    throw error;
  }
}
