// What scanners print, and what is made of it.
import { describe, expect, test } from 'vitest';
import { findRefusal, type ScanRecord, scanRecordSchema } from '../../src/scans/record.ts';
import { parseReport, summarize } from '../../src/scans/report.ts';

const trivy = (vulnerabilities: readonly object[]) =>
  JSON.stringify({ SchemaVersion: 2, Results: [{ Target: 'a' }, { Vulnerabilities: vulnerabilities }] });

test('reads the report of trivy, without what it has wrong', () => {
  const found = { VulnerabilityID: 'CVE-1', PkgName: 'a', InstalledVersion: '1', Severity: 'HIGH', Title: null };
  expect(parseReport(trivy([found, { PkgName: 7 }, null as never, { ...found, Severity: 'odd' }]))).toEqual([
    { id: 'CVE-1', severity: 'HIGH', pkgName: 'a', installedVersion: '1' },
    { id: 'CVE-1', severity: 'UNKNOWN', pkgName: 'a', installedVersion: '1' },
  ]);
});

test('reads the report of grype', () => {
  const fix = { versions: ['2', '3'], state: 'fixed' };
  const vulnerability = { id: 'CVE-1', severity: 'Negligible', dataSource: 'https://e.example/1', fix };
  const report = { matches: [{ vulnerability, artifact: { name: 'a', version: '1' } }] };
  expect(parseReport(JSON.stringify(report))).toEqual([
    {
      ...{ id: 'CVE-1', severity: 'LOW', pkgName: 'a', installedVersion: '1' },
      ...{ fixedVersion: '2, 3', primaryUrl: 'https://e.example/1' },
    },
  ]);
});

test('a clean image of trivy has no Results', () => {
  expect(parseReport('{"SchemaVersion":2}')).toEqual([]);
});

test.each([
  ['', 'printed nothing'],
  ['<html>', 'something other than JSON'],
  ['{"vulnerabilities":[]}', 'neither a report of trivy'],
  ['[]', 'neither a report of trivy'],
])('refuses %j', (report, message) => {
  expect(() => parseReport(report)).toThrow(message);
});

test('counts each vulnerability of a package once, and keeps the worst', () => {
  const of = (id: string, severity: 'LOW' | 'CRITICAL') => ({ id, severity, pkgName: 'a', installedVersion: '1' });
  const { counts, vulnerabilities } = summarize([of('1', 'LOW'), of('2', 'CRITICAL'), of('1', 'LOW')], 1);
  expect([counts, vulnerabilities.map(({ id }) => id)]).toEqual([{ LOW: 1, CRITICAL: 1 }, ['2']]);
});

test('keeps no address that a browser would run', () => {
  const found = { id: '1', severity: 'LOW', pkgName: 'a', primaryUrl: 'javascript:alert(1)' } as const;
  expect(summarize([found], 1).vulnerabilities[0]?.primaryUrl).toBeUndefined();
});

describe('a request', () => {
  const id = 'sc-0123456789abcdef_1';
  const scan: ScanRecord = scanRecordSchema.parse({
    ...{ id, image: 'a', repository: 'a', status: 'succeeded', createdAt: '2026-01-02T03:04:05.000Z' },
    counts: { LOW: 2, HIGH: 1, CRITICAL: 3, UNKNOWN: 9 },
  });

  test.each<[string, Parameters<typeof findRefusal>, string | undefined]>([
    ['that does not wait', [{ id, mode: 'async', levels: [] }, scan], undefined],
    ['that allows all', [{ id, mode: 'required', levels: ['LOW', 'HIGH', 'CRITICAL'] }, scan], undefined],
    [
      'that allows some',
      [{ id, mode: 'required', levels: ['LOW', 'MEDIUM'] }, scan],
      '3 CRITICAL, 1 HIGH; allowed are LOW, MEDIUM',
    ],
    ['that allows none', [{ id, mode: 'required', levels: [] }, scan], '3 CRITICAL, 1 HIGH, 2 LOW; none is allowed'],
    [
      'whose scan failed',
      [
        { id, mode: 'required', levels: ['LOW'] },
        { ...scan, status: 'failed', reason: 'why' },
      ],
      'failed: why',
    ],
    ['whose scan is gone', [{ id, mode: 'required', levels: ['LOW'] }, undefined], 'was deleted'],
  ])('%s', (_, [demand, of], message) => {
    const refusal = findRefusal(demand, of);
    if (message === undefined) expect(refusal).toBeUndefined();
    else expect(refusal).toContain(message);
  });
});
