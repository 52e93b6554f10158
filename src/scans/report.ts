// Reports of scanners: the JSON of trivy and of grype, which other scanners can write too.
import { z } from 'zod';
import { SCAN_LEVELS, SEVERITIES, type Severity, type Vulnerability } from './record.ts';

const text = z
  .string()
  .nullish()
  .transform(value => value || undefined);
const word = z.string().min(1).max(512);
const list = z.array(z.unknown()).nullish();

const trivySchema = z.object({ Results: list, SchemaVersion: z.number().nullish() });
const trivyResultSchema = z.object({ Vulnerabilities: list });
const trivyVulnerabilitySchema = z
  .object({
    VulnerabilityID: word,
    PkgName: word,
    InstalledVersion: text,
    FixedVersion: text,
    Severity: text,
    Title: text,
    PrimaryURL: text,
  })
  .transform(found => ({
    id: found.VulnerabilityID,
    severity: toSeverity(found.Severity),
    title: found.Title,
    pkgName: found.PkgName,
    installedVersion: found.InstalledVersion,
    fixedVersion: found.FixedVersion,
    primaryUrl: found.PrimaryURL,
  }));

const grypeSchema = z.object({ matches: z.array(z.unknown()) });
const grypeMatchSchema = z
  .object({
    vulnerability: z.object({
      id: word,
      severity: text,
      dataSource: text,
      description: text,
      fix: z.object({ versions: z.array(z.string()).nullish() }).nullish(),
    }),
    artifact: z.object({ name: word, version: text }),
  })
  .transform(({ vulnerability, artifact }) => ({
    id: vulnerability.id,
    severity: toSeverity(vulnerability.severity),
    title: vulnerability.description,
    pkgName: artifact.name,
    installedVersion: artifact.version,
    fixedVersion: vulnerability.fix?.versions?.join(', ') || undefined,
    primaryUrl: vulnerability.dataSource,
  }));

/** For each text of a vulnerability, in characters. */
const MAX_TEXT = 512;

/** The vulnerabilities in a report; invalid entries are skipped. Throws InvalidReport. */
export function parseReport(json: string): readonly Vulnerability[] {
  const report = parse(json);
  const grype = grypeSchema.safeParse(report);
  if (grype.success) return readEach(grype.data.matches, grypeMatchSchema);
  const trivy = trivySchema.safeParse(report);
  if (!trivy.success || (trivy.data.Results == null && trivy.data.SchemaVersion == null))
    throw new InvalidReport(KNOWN);
  const results = readEach(trivy.data.Results ?? [], trivyResultSchema);
  return readEach(
    results.flatMap(({ Vulnerabilities }) => Vulnerabilities ?? []),
    trivyVulnerabilitySchema,
  );
}

const KNOWN = 'the scanner printed JSON that is neither a report of trivy (Results) nor of grype (matches)';

/** The scanner's output is not a report. */
export class InvalidReport extends Error {
  override readonly name = 'InvalidReport';
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    const what = json.trim() === '' ? 'nothing' : 'something other than JSON';
    throw new InvalidReport(`the scanner printed ${what}: a report of trivy or grype is needed`, { cause });
  }
}

function readEach<T>(items: readonly unknown[], schema: z.ZodType<T>): readonly T[] {
  return items.flatMap(item => {
    const { data, success } = schema.safeParse(item);
    return success ? [data] : [];
  });
}

function toSeverity(given = ''): Severity {
  const upper = given.toUpperCase();
  if (upper === 'NEGLIGIBLE') return 'LOW';
  return SCAN_LEVELS.find(level => level === upper) ?? 'UNKNOWN';
}

/** Merges those of several images: each vulnerability of a package once, the most severe first, and their counts. */
export function summarize(found: readonly Vulnerability[], maxKept: number) {
  const distinct = new Map(
    found.map(each => [JSON.stringify([each.id, each.pkgName, each.installedVersion]), shorten(each)]),
  );
  const all = [...distinct.values()].toSorted((a, b) => rankOf(b) - rankOf(a));
  const counts: Partial<Record<Severity, number>> = {};
  for (const { severity } of all) counts[severity] = (counts[severity] ?? 0) + 1;
  return { counts, vulnerabilities: all.slice(0, maxKept) };
}

function rankOf({ severity }: Vulnerability): number {
  return SEVERITIES.indexOf(severity);
}

function shorten(vulnerability: Vulnerability): Vulnerability {
  const cut = (value: string | undefined) => value?.slice(0, MAX_TEXT).toWellFormed();
  const { id, severity, pkgName, title, installedVersion, fixedVersion, primaryUrl } = vulnerability;
  // Rendered as a link: other schemes could run code.
  const address = primaryUrl !== undefined && /^https?:\/\//i.test(primaryUrl) ? cut(primaryUrl) : undefined;
  return {
    ...{ id, severity, pkgName, title: cut(title), installedVersion: cut(installedVersion) },
    ...{ fixedVersion: cut(fixedVersion), primaryUrl: address },
  };
}
